using System.Text.Json;

namespace KCacheNative.Tests.Console;

public class EvalCommandTests
{
    private static readonly string Text = Path.Combine(TestEnvironment.RepositoryRoot, "src/demo-model/archives/archive-4k.txt");

    [Test]
    public async Task FullAttentionComparedWithItselfDiffersByNothing()
    {
        var window = (await Windows("--policy", "full")).Single();

        Assert.That(Number(window, "nll_full"), Is.EqualTo(Number(window, "nll")).And.Positive);
        Assert.That(Number(window, "kl_mean"), Is.Zero);
        Assert.That(Number(window, "top1_agree"), Is.EqualTo(1));
    }

    [Test]
    public async Task KeepingEveryRowDiffersByNothing()
    {
        var window = (await Windows("--policy", "kcache", "--keep", "4096")).Single();

        Assert.That(Number(window, "kl_max"), Is.Zero);
        Assert.That(Number(window, "tail_max"), Is.Zero);
    }

    [Test]
    public async Task FewRowsCostSomethingAndTheTailSaysSo()
    {
        var window = (await Windows("--policy", "kcache", "--keep", "8", "--dense-layers", "1")).Single();

        Assert.That(Number(window, "window"), Is.Zero);
        Assert.That(Number(window, "kl_mean"), Is.Positive.And.LessThanOrEqualTo(Number(window, "kl_max")));
        Assert.That(Number(window, "tail_mean"), Is.Positive.And.LessThan(Number(window, "tail_max")));
        Assert.That(Number(window, "rows_selected_mean"), Is.EqualTo(8));
        double[] layers = [.. window.GetProperty("tail_mean_by_layer").EnumerateArray().Select(x => x.GetDouble())];
        Assert.That(layers, Has.Length.EqualTo(3), "four layers, one of them dense");
        Assert.That(layers.Average(), Is.EqualTo(Number(window, "tail_mean")).Within(1e-9));
    }

    [Test]
    public async Task LikelihoodIsThatOfStepsOneByOne()
    {
        // a text scored in one forward and in forwards of one token gives the same bits
        var together = (await Windows("--policy", "kcache")).Single();
        var apart = (await Windows("--policy", "kcache", "--batch-tokens", "1")).Single();

        Assert.That(Number(apart, "nll"), Is.EqualTo(Number(together, "nll")));
        Assert.That(Number(apart, "kl_mean"), Is.EqualTo(Number(together, "kl_mean")));
    }

    [Test]
    public async Task WindowsAreThoseAskedForInTheirOrder()
    {
        var windows = await Windows("--policy", "window", "--recent", "64", "--windows", "3,1");

        Assert.That(windows.Select(w => w.GetProperty("window").GetInt32()), Is.EqualTo(new[] { 3, 1 }));
    }

    [Test]
    public async Task PeopleGetATableWithinEightyColumns()
    {
        var call = await ConsoleCall.RunAsync("eval", "demo", "-f", Text, "--context", "256", "--last", "8", "--windows", "0,1");

        Assert.That(call.ExitCode, Is.Zero, call.Error);
        Assert.That(call.Output, Does.Contain("PPL: perplexity").And.Contain("Mean tail by layer"));
        Assert.That(call.Output.Split('\n').Where(line => line.StartsWith('│')).Select(line => line.Length), Is.All.LessThanOrEqualTo(80));
    }

    [Test]
    public async Task QuestionsAreCountedByPolicyAndN()
    {
        var report = await ConsoleCall.JsonAsync("eval", "demo", "--questions", "--policy", "kcache", "--keep", "32", "--mode", "renormalized", "--json");
        var rows = report.GetProperty("rows").EnumerateArray().ToList();

        Assert.That(rows.Select(row => row.GetProperty("policy").GetString()), Is.EqualTo(new[] { "full", "kcache" }));
        Assert.That(rows[1].GetProperty("keep").GetInt32(), Is.EqualTo(32));
        foreach (var row in rows)
        {
            // full attention and the 32 best rows answer every embedded question
            Assert.That(Number(row.GetProperty("recall"), "asked"), Is.EqualTo(27));
            Assert.That(Number(row.GetProperty("recall"), "right"), Is.EqualTo(27), row.ToString());
            Assert.That(Number(row.GetProperty("aggregation"), "asked"), Is.EqualTo(3));
            Assert.That(Number(row.GetProperty("aggregation"), "right"), Is.EqualTo(3), row.ToString());
        }
    }

    [Test]
    public async Task ASweepWritesTableAndPlot()
    {
        var folder = Directory.CreateTempSubdirectory("kcache-sweep-");
        try
        {
            string output = Path.Combine(folder.FullName, "found");
            var call = await ConsoleCall.RunAsync("eval", "demo", "-f", Text, "--context", "256", "--last", "8", "--sweep",
                "--sweep-policies", "full,kcache", "--sweep-codecs", "f16,q8", "--sweep-keep", "8,4096", "-o", output);

            Assert.That(call.ExitCode, Is.Zero, call.Error);
            using var report = JsonDocument.Parse(File.ReadAllText(output + ".json"));
            var rows = report.RootElement.GetProperty("rows").EnumerateArray().ToList();
            // full in f16 and q8; kcache with keys in f16 and q8, in two modes, with two N
            Assert.That(rows, Has.Count.EqualTo(2 + (2 * 2 * 2)));
            Assert.That(Number(rows[0], "kl_mean"), Is.Zero, "full over f16 is the reference itself");
            Assert.That(Number(rows[0], "nll"), Is.EqualTo(Number(report.RootElement, "nll_full")));
            Assert.That(rows.Select(row => Number(row, "fast_bytes_per_token")), Is.All.Positive);
            Assert.That(File.ReadAllText(output + ".md"), Does.Contain("| kcache | q8 | f16 | exact-weights | 4,096 |"));
            Assert.That(File.ReadAllText(output + ".svg"), Does.Contain("<svg"));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Test]
    public async Task ASweepWithoutAPlaceToWriteIsRefusedAtOnce() =>
        (await ConsoleCall.RunAsync("eval", "demo", "-f", Text, "--context", "256", "--last", "8", "--sweep", "-o", "/nowhere/x"))
            .AssertRefused(KCacheNative.Console.ExitCode.Usage, "/nowhere");

    private static async Task<List<JsonElement>> Windows(params string[] options)
    {
        var report = await ConsoleCall.JsonAsync(["eval", "demo", "-f", Text, "--context", "512", "--last", "24", .. options, "--json"]);
        return [.. report.GetProperty("windows").EnumerateArray()];
    }

    private static double Number(JsonElement element, string name) => element.GetProperty(name).GetDouble();
}
