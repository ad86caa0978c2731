namespace KCacheNative.Tests.Console;

public class CompareCommandTests
{
    [Test]
    public async Task WithoutArgumentsTheArchiveIsAskedAndAnsweredRight()
    {
        var call = await ConsoleCall.RunAsync("compare");

        Assert.That(call.ExitCode, Is.Zero, call.Error);
        Assert.That(call.Error, Is.Empty);
        Assert.That(call.Output, Does.Contain("What is the flag of Patient Garrison?"));
        Assert.That(call.Output, Does.Contain("The flag of Patient Garrison is brown. (right)"));
        Assert.That(call.Output, Does.Contain("full").And.Contain("kcache").And.Contain("Cache read per token").And.Contain("Tokens per second"));
        string[] lines = call.Output.Split('\n');
        Assert.That(lines.Select(line => line.TrimEnd().Length), Is.All.LessThanOrEqualTo(80));
        Assert.That(lines, Has.Length.LessThanOrEqualTo(30), "one screen");
    }

    [Test]
    public async Task FiguresAreThoseOfTheRun()
    {
        var report = await ConsoleCall.JsonAsync("compare", "demo", "--keep", "32", "--json");
        var policies = report.GetProperty("policies").EnumerateArray().ToDictionary(entry => entry.GetProperty("policy").GetString()!);
        var (full, kcache) = (policies["full"], policies["kcache"]);

        Assert.That(report.GetProperty("prompt_tokens").GetInt32(), Is.GreaterThan(8068));
        Assert.That(full.GetProperty("text").GetString(), Is.EqualTo(report.GetProperty("expected_answer").GetString()));
        // f16 keys and values of 4 layers, 2 KV heads of 64: 2 KiB a token
        Assert.That(full.GetProperty("bytes_read_per_token").GetDouble(), Is.InRange(8068 * 2048.0, 8200 * 2048.0));
        Assert.That(kcache.GetProperty("bytes_read_per_token").GetDouble(), Is.InRange(8068 * 1024.0, 8200 * 2048.0 * 0.75));
        Assert.That(full.GetProperty("tail_max").GetDouble(), Is.Zero);
        Assert.That(kcache.GetProperty("tail_max").GetDouble(), Is.InRange(1e-6, 1));
        Assert.That(kcache.GetProperty("fast_minimum_bytes").GetInt64(), Is.LessThan(full.GetProperty("fast_minimum_bytes").GetInt64()));
        Assert.That(report.GetProperty("agree").GetBoolean(), Is.EqualTo(policies.Values.DistinctBy(entry => entry.GetProperty("text").GetString()).Count() == 1));
    }

    [Test]
    public async Task ATextOfOnesOwnIsContinued()
    {
        string file = Path.GetTempFileName();
        try
        {
            File.WriteAllText(file, "The keeper of Amber Harbor is Mira Holt. The flag of Amber Harbor is");
            var report = await ConsoleCall.JsonAsync("compare", "demo", "-f", file, "-n", "3", "--policy", "window", "--json");

            Assert.That(
                report.GetProperty("policies").EnumerateArray().Select(entry => entry.GetProperty("policy").GetString()), Is.EqualTo(new[] { "full", "window" }));
            Assert.That(report.GetProperty("agree").GetBoolean(), Is.True, "the window holds the whole text");
            Assert.That(report.TryGetProperty("question", out _), Is.False);
        }
        finally
        {
            File.Delete(file);
        }
    }
}
