using KCacheNative.Console.Output;

namespace KCacheNative.Tests.Console;

public class InspectCommandTests
{
    [Test]
    public async Task TheDemonstrationModelIsDescribed()
    {
        var report = await ConsoleCall.JsonAsync("inspect", "demo", "--json");

        Assert.That(report.GetProperty("file_bytes").GetInt64(), Is.EqualTo(new FileInfo(TestEnvironment.DemoModelPath).Length));
        Assert.That(report.GetProperty("tensors").GetArrayLength(), Is.EqualTo(38));
        Assert.That(report.GetProperty("tensors")[0].GetProperty("dimensions").EnumerateArray().Select(d => d.GetInt64()), Is.EqualTo(new[] { 256L, 1262 }));
        Assert.That(report.GetProperty("tokenizer").GetProperty("vocabulary").GetInt32(), Is.EqualTo(1262));
        Assert.That(report.GetProperty("metadata").EnumerateArray().Select(m => m.GetProperty("key").GetString()), Has.Some.EqualTo("general.architecture"));
    }

    [Test]
    public async Task PeopleGetTablesWithinEightyColumns()
    {
        var call = await ConsoleCall.RunAsync("inspect", "demo");

        Assert.That(call.ExitCode, Is.Zero, call.Error);
        Assert.That(call.Output, Does.Contain("token_embd.weight").And.Contain("general.architecture").And.Contain("Tokenizer: 1262 tokens"));
        Assert.That(call.Output.Split('\n').Select(line => line.Length), Is.All.LessThanOrEqualTo(80));
        Assert.That(call.Output, Does.Not.Contain('\e'), "no colours where nothing is a terminal");
    }

    [TestCase("a\e[2Jb", ExpectedResult = "a\uFFFD[2Jb")]
    [TestCase("two\nlines", ExpectedResult = "two\nlines")]
    public string NothingFromAFileDrivesTheTerminal(string text) => Tables.Printable(text);
}
