using System.Text.Json;
using KCacheNative.Console;

namespace KCacheNative.Tests.Console;

public class RunCommandTests
{
    private static readonly JsonElement Golden = ReadGolden();

    [TestCase("plain")]
    [TestCase("chat")]
    public async Task GreedyTokensAreTheGoldenOnes(string kind)
    {
        var golden = Golden.GetProperty(kind);
        int[] greedy = Ids(golden, "greedy");
        int end = Array.FindIndex(greedy, id => id is 0 or 2);
        int[] expected = end < 0 ? greedy : greedy[..(end + 1)];
        string ids = Path.GetTempFileName();
        File.WriteAllText(ids, golden.GetProperty("ids").GetRawText());
        var report = await ConsoleCall.JsonAsync("run", "demo", "--ids", ids, "-n", "32", "--policy", "full", "--activations", "f32", "--json");
        File.Delete(ids);

        Assert.That(Ids(report, "prompt_ids"), Is.EqualTo(Ids(golden, "ids")));
        Assert.That(Ids(report, "ids"), Is.EqualTo(expected));
        Assert.That(report.GetProperty("finish_reason").GetString(), Is.EqualTo(end < 0 ? "length" : "stop"));
    }

    [Test]
    public async Task EveryFieldIsThere()
    {
        var report = await ConsoleCall.JsonAsync("run", "demo", "-p", "The keeper of Amber Harbor is", "-n", "4", "--ignore-eos", "--json");

        Assert.That(Ids(report, "ids"), Has.Length.EqualTo(4));
        Assert.That(report.GetProperty("text").GetString(), Is.Not.Empty);
        Assert.That(report.GetProperty("prompt_tokens_per_second").GetDouble(), Is.Positive);
        Assert.That(report.GetProperty("decode_tokens_per_second").GetDouble(), Is.Positive);
        Assert.That(report.GetProperty("peak_rss_bytes").GetInt64(), Is.GreaterThan(1 << 20));
        Assert.That(report.GetProperty("cache").GetProperty("fast_bytes").GetInt64(), Is.Positive);
        Assert.That(report.GetProperty("cache").GetProperty("slow_bytes").GetInt64(), Is.Zero);
        var steps = report.GetProperty("steps");
        Assert.That(steps.GetProperty("count").GetInt64(), Is.EqualTo(3), "the first token comes out of the prompt");
        Assert.That(steps.GetProperty("bytes_read").GetInt64(), Is.Positive);
        foreach (string name in new[] { "tail_mean", "tail_max", "rows_selected", "rows_restored", "rows_hot", "bound_missed" })
            Assert.That(steps.GetProperty(name).GetDouble(), Is.Not.Negative, name);
    }

    [Test]
    public async Task TheTextIsAllThatStandsOnTheOutput()
    {
        string[] args = ["run", "demo", "-p", "The keeper of Amber Harbor is", "-n", "6"];
        var report = await ConsoleCall.JsonAsync([.. args, "--json"]);
        var call = await ConsoleCall.RunAsync(args);

        Assert.That(call.ExitCode, Is.Zero, call.Error);
        Assert.That(call.Error, Is.Empty, "nobody watches");
        Assert.That(call.Output.ReplaceLineEndings("\n"), Is.EqualTo(report.GetProperty("text").GetString() + "\n"));
    }

    [Test]
    public async Task ASeedMakesSamplingRepeatable()
    {
        string[] args = ["run", "demo", "-p", "The", "-n", "8", "--temperature", "1.5", "--seed", "7", "--json"];

        Assert.That(Ids(await ConsoleCall.JsonAsync(args), "ids"), Is.EqualTo(Ids(await ConsoleCall.JsonAsync(args), "ids")));
    }

    [Test]
    public async Task AStopTextEndsTheText()
    {
        var report = await ConsoleCall.JsonAsync("run", "demo", "-p", "The keeper of Amber Harbor is Mira Holt. The keeper of", "-n", "64", "--stop", ".", "--json");

        Assert.That(report.GetProperty("finish_reason").GetString(), Is.EqualTo("stop"));
        Assert.That(report.GetProperty("text").GetString(), Does.Not.Contain("."));
    }

    [Test]
    public async Task TheContextIsFullWhenItIsFull()
    {
        var report = await ConsoleCall.JsonAsync("run", "demo", "-p", "The keeper of", "-n", "500", "--context", "20", "--ignore-eos", "--json");

        Assert.That(report.GetProperty("finish_reason").GetString(), Is.EqualTo("length"));
        Assert.That(Ids(report, "prompt_ids").Length + Ids(report, "ids").Length, Is.EqualTo(20));
    }

    [Test]
    public async Task AnInterruptionKeepsWhatWasGenerated()
    {
        using StringWriter output = new(), error = new();
        var terminal = Terminal.Of(TextReader.Null, output, error);
        var running = Application.RunAsync(["run", "demo", "-p", "The", "-n", "8000", "--ignore-eos", "--json"], terminal);
        await Task.Delay(TimeSpan.FromSeconds(1));
        terminal.Interruption.Interrupt();

        Assert.That(await running, Is.EqualTo(ExitCode.Cancelled));
        // cancelled while still loading there is nothing to report
        if (output.ToString().Length > 0)
        {
            using var report = JsonDocument.Parse(output.ToString());
            Assert.That(report.RootElement.GetProperty("finish_reason").GetString(), Is.EqualTo("cancelled"));
        }
    }

    private static int[] Ids(JsonElement report, string name) => [.. report.GetProperty(name).EnumerateArray().Select(id => id.GetInt32())];

    private static JsonElement ReadGolden()
    {
        using var document = JsonDocument.Parse(File.ReadAllText(Path.Combine(TestEnvironment.RepositoryRoot, "src/demo-model/golden/golden.json")));
        return document.RootElement.Clone();
    }
}
