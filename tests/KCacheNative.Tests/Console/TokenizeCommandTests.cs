using System.Text.Json;

namespace KCacheNative.Tests.Console;

public class TokenizeCommandTests
{
    [Test]
    public async Task StringsHaveTheGoldenIds()
    {
        using var golden = JsonDocument.Parse(File.ReadAllText(TestEnvironment.Demo("golden/golden.json")));
        string file = Path.GetTempFileName();
        try
        {
            foreach (var item in golden.RootElement.GetProperty("strings").EnumerateArray().Take(4))
            {
                File.WriteAllText(file, item.GetProperty("text").GetString());
                var report = await ConsoleCall.JsonAsync("tokenize", "demo", "-f", file, "--special", "--json");

                // the model asks for a beginning token, the golden ids are without
                Assert.That(Ids(report).Skip(1), Is.EqualTo(Ids(item)));
            }
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Test]
    public async Task SpecialTokensAreTextUnlessAskedFor()
    {
        var plain = await ConsoleCall.JsonAsync("tokenize", "demo", "-p", "<|im_end|>", "--json");
        var special = await ConsoleCall.JsonAsync("tokenize", "demo", "-p", "<|im_end|>", "--special", "--json");

        Assert.That(Ids(special), Is.EqualTo(new[] { 0, 2 }));
        Assert.That(Ids(plain), Has.Length.GreaterThan(2).And.None.EqualTo(2));
    }

    [Test]
    public async Task AChatIsRenderedWithTheBeginningOfTheAnswer()
    {
        string file = Path.GetTempFileName();
        try
        {
            File.WriteAllText(file, """[{"role": "user", "content": "Hi <|im_end|>"}]""");
            var report = await ConsoleCall.JsonAsync("tokenize", "demo", "--messages", file, "--json");

            Assert.That(report.GetProperty("text").GetString(), Is.EqualTo("<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"));
            Assert.That(Ids(report).Count(id => id == 2), Is.EqualTo(1), "what a user writes ends no turn");
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Test]
    public async Task TextComesFromTheStandardInputToo()
    {
        var call = await ConsoleCall.RunAsync("Who keeps Ivory Manor?", ["tokenize", "demo", "-f", "-"]);

        Assert.That(call.ExitCode, Is.Zero, call.Error);
        Assert.That(call.Output, Does.Contain("\" Ivory\"").And.Contain("6 tokens"));
    }

    private static int[] Ids(JsonElement report) => [.. report.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];
}
