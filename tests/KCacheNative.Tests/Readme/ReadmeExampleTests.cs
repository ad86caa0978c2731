using KCacheNative.Engine;
using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Readme;

/// <summary>The examples of README.md are these very lines: they compile, run, and do what the text around them says.</summary>
[TestFixture]
public sealed class ReadmeExampleTests
{
    [Test]
    public async Task TheExampleAnswers()
    {
        string path = TestEnvironment.DemoModelPath;
        string archive = File.ReadAllText(TestEnvironment.Demo("archives/archive-1k.txt"));
        string prompt = archive + "\n\nQuestion: Who keeps Ivory Observatory? Answer:";
        var Console = new StringWriter();

        // README: begin
        using var model = LanguageModel.Load(path);
        using var session = model.CreateSession(
            CachePolicy.Sketch with { Keep = 32 },
            new CacheOptions { Context = 8192, FastBudgetBytes = 16 << 20 });

        await foreach (var piece in session.GenerateAsync(prompt, new GenerationOptions { MaxTokens = 32, StopStrings = ["\n"] }))
            Console.Write(piece.Text);

        var result = session.LastResult!;
        Console.WriteLine($"{result.FinishReason}, {result.DecodeTokensPerSecond:F0} tokens/s, tail {result.Steps.TailMean:P1}");
        Console.WriteLine($"{result.Cache.FastBytes} bytes of fast memory, {result.Cache.SlowBytes} in the file");
        // README: end

        Assert.That(result.FinishReason, Is.EqualTo(FinishReason.Stop));
        Assert.That(result.Text, Does.StartWith(" The keeper of Ivory Observatory is Jonas Nash."));
        Assert.That(result.Cache.FastBytes, Is.LessThanOrEqualTo(16 << 20));
        Assert.That(Console.ToString(), Does.Contain("bytes of fast memory"));
    }

    [Test]
    public async Task TheChatRemembers()
    {
        string path = TestEnvironment.DemoModelPath;
        var Console = new StringWriter();
        using var model = LanguageModel.Load(path);

        // README: begin chat
        using var chat = model.CreateConversation();
        var answer = await chat.CompleteAsync("Which bird was seen? A heron was seen at noon.");
        answer = await chat.CompleteAsync("Are you sure?"); // runs the new turn alone
        Console.WriteLine($"{answer.Text} ({answer.PromptTokens} tokens were run)");
        // README: end chat

        Assert.That(answer.PromptTokens, Is.LessThan(chat.Session.Tokens.Count));
    }

    [TestCase("begin", "end")]
    [TestCase("begin chat", "end chat")]
    public void TheTextShowsWhatIsRun(string begin, string end)
    {
        string[] lines = File.ReadAllLines(Path.Combine(
            TestEnvironment.RepositoryRoot, "tests", "KCacheNative.Tests", "Readme", "ReadmeExampleTests.cs"));
        int first = Array.FindIndex(lines, line => line.Trim() == $"// README: {begin}") + 1;
        int last = Array.FindIndex(lines, line => line.Trim() == $"// README: {end}");
        string shown = string.Join('\n', lines[first..last].Select(line => line.Length >= 8 ? line[8..] : line));
        Assert.That(Readme(), Does.Contain(shown.Trim()));
    }

    [Test]
    public void TheCProgramIsTheOneThatIsTested()
    {
        string program = File.ReadAllText(Path.Combine(TestEnvironment.RepositoryRoot, "tests", "native", "embed_example.c"));
        string shown = program[program.IndexOf("    kc_context* context", StringComparison.Ordinal)..program.IndexOf("    kc_statistics", StringComparison.Ordinal)];
        Assert.That(Readme(), Does.Contain(string.Join('\n', shown.TrimEnd().Split('\n').Select(line => line.Length >= 4 ? line[4..] : line))));
    }

    private static string Readme() => File.ReadAllText(Path.Combine(TestEnvironment.RepositoryRoot, "README.md"));
}
