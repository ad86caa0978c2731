using System.Text.Json;

namespace KCacheNative.Tests.Console;

public class PlanCommandTests
{
    [TestCase("full", "")]
    [TestCase("window", "")]
    [TestCase("kcache", "")]
    [TestCase("kcache", "--keep 16 --k-codec q8 --v-codec q8")]
    [TestCase("kcache", "--max-tail 0.1 --batch-tokens 64")]
    public async Task ThePlanIsWhatARunTakes(string policy, string more)
    {
        string[] options = ["--context", "1000", "--policy", policy, .. more.Split(' ', StringSplitOptions.RemoveEmptyEntries)];
        var plan = await ConsoleCall.JsonAsync(["plan", "demo", .. options, "--json"]);
        var run = await ConsoleCall.JsonAsync(["run", "demo", "-p", "The", "-n", "2", .. options, "--json"]);

        var planned = plan.GetProperty("policies").EnumerateArray().Single();
        Assert.That(planned.GetProperty("policy").GetString(), Is.EqualTo(policy));
        Assert.That(planned.GetProperty("fast_bytes").GetInt64(), Is.EqualTo(run.GetProperty("cache").GetProperty("fast_bytes").GetInt64()));
    }

    [Test]
    public async Task AllPoliciesOfferedAreListed()
    {
        var policies = Policies(await ConsoleCall.JsonAsync("plan", "demo", "--context", "2048", "--json"));

        Assert.That(policies.Keys, Is.SupersetOf(new[] { "full", "window", "kcache" }));
        foreach (var plan in policies.Values)
        {
            long Bytes(string name) => plan.GetProperty(name).GetInt64();
            Assert.That(
                Bytes("keys_bytes") + Bytes("values_bytes") + Bytes("exact_bytes") + Bytes("hot_bytes") + Bytes("scratch_bytes"), Is.EqualTo(Bytes("fast_bytes")));
            Assert.That(Bytes("fast_minimum_bytes"), Is.Positive.And.LessThanOrEqualTo(Bytes("fast_bytes")));
            Assert.That(Bytes("weights_bytes"), Is.Positive.And.LessThan(new FileInfo(TestEnvironment.DemoModelPath).Length));
        }
    }

    [Test]
    public async Task ThePlanNamesTheDeviceAndItsHomes()
    {
        var plan = await ConsoleCall.JsonAsync("plan", "demo", "--context", "512", "--backend", "cpu", "--json");

        Assert.That(plan.GetProperty("backend").GetString(), Is.EqualTo("cpu"));
        Assert.That(plan.GetProperty("device").GetString(), Is.Not.Empty);
        Assert.That(plan.GetProperty("fast_home").GetString(), Is.EqualTo("ram"));
        Assert.That(plan.GetProperty("slow_home").GetString(), Is.EqualTo("file"));
    }

    [Test]
    public async Task MoreSequencesNeedMore()
    {
        var one = Policies(await ConsoleCall.JsonAsync("plan", "demo", "--context", "512", "--json"))["kcache"];
        var four = Policies(await ConsoleCall.JsonAsync("plan", "demo", "--context", "512", "--batch", "4", "--json"))["kcache"];

        Assert.That(four.GetProperty("keys_bytes").GetInt64(), Is.GreaterThan(3 * one.GetProperty("keys_bytes").GetInt64()));
    }

    [Test]
    public async Task ABudgetMovesRowsToTheSlowHome()
    {
        var free = Policies(await ConsoleCall.JsonAsync("plan", "demo", "--context", "8192", "--policy", "kcache", "--json"))["kcache"];
        long smallest = free.GetProperty("fast_minimum_bytes").GetInt64();
        var tight = Policies(await ConsoleCall.JsonAsync("plan", "demo", "--context", "8192", "--policy", "kcache", "--fast-budget", $"{smallest}", "--json"))["kcache"];

        Assert.That(tight.GetProperty("fast_bytes").GetInt64(), Is.LessThanOrEqualTo(smallest));
        Assert.That(tight.GetProperty("slow_bytes").GetInt64(), Is.Positive);
    }

    [Test]
    public async Task ABudgetThatIsTooSmallIsExplainedAndTheSmallestNamed()
    {
        var plan = Policies(await ConsoleCall.JsonAsync("plan", "demo", "--policy", "kcache", "--fast-budget", "1KiB", "--json"))["kcache"];

        Assert.That(plan.GetProperty("problem").GetString(), Does.Contain("1024").And.Contain($"{plan.GetProperty("fast_minimum_bytes").GetInt64()}"));
    }

    [Test]
    public async Task PeopleGetATable()
    {
        var call = await ConsoleCall.RunAsync("plan", "demo", "--context", "2048");

        Assert.That(call.ExitCode, Is.Zero, call.Error);
        Assert.That(call.Output, Does.Contain("Fast memory").And.Contain("kcache").And.Contain("Smallest --fast-budget"));
        Assert.That(call.Output.Split('\n').Select(line => line.TrimEnd().Length), Is.All.LessThanOrEqualTo(80));
    }

    private static Dictionary<string, JsonElement> Policies(JsonElement report) =>
        report.GetProperty("policies").EnumerateArray().ToDictionary(plan => plan.GetProperty("policy").GetString()!);
}
