using KCacheNative.Engine;
using KCacheNative.Runtime;
using KCacheNative.Sampling;

namespace KCacheNative.Tests.Engine;

/// <summary>Generating on a sequence: streaming, ends, limits, options.</summary>
public class SessionTests
{
    private const string Prompt =
        "The market day of Jagged Lodge is Saturday. The keeper of Amber Harbor is Mira Holt.\n\nQuestion: Who keeps Amber Harbor? Answer:";

    private const string Answer = " The keeper of Amber Harbor is Mira Holt.";

    private LanguageModel _model = null!;

    [OneTimeSetUp]
    public void Load() => _model = DemoSessions.Load();

    [OneTimeTearDown]
    public void Unload() => _model.Dispose();

    [Test]
    public async Task PiecesAreTheTextTokenByToken()
    {
        using var session = _model.CreateSession(options: DemoSessions.Context(256));
        var (pieces, result) = await DemoSessions.Collect(session, Prompt, new GenerationOptions { MaxTokens = 12 });
        Assert.That(pieces.Select(piece => piece.TokenId), Is.EqualTo(result.Ids));
        Assert.That(string.Concat(pieces.Select(piece => piece.Text)), Is.EqualTo(result.Text));
        Assert.That(result.Text, Is.EqualTo(_model.Tokenizer.Decode([.. result.Ids])));
        Assert.That(result.Text, Does.StartWith(Answer[..20]));
        Assert.That((result.FinishReason, result.Ids.Count, result.DecodeTokens), Is.EqualTo((FinishReason.Length, 12, 11)));
        Assert.That(result.PromptTokens, Is.EqualTo(_model.Tokenizer.EncodePrompt(Prompt).Length));
        Assert.That(session.Tokens, Is.EqualTo(_model.Tokenizer.EncodePrompt(Prompt).Concat(result.Ids)));
        Assert.That(session.Cache.Length(0), Is.EqualTo(session.Tokens.Count - 1), "the last token has not been run");
        Assert.That(result.PromptTokensPerSecond, Is.GreaterThan(0));
        Assert.That(result.DecodeTokensPerSecond, Is.GreaterThan(0));
        Assert.That(result.Steps.Steps, Is.EqualTo(11));
        Assert.That(result.Cache, Is.EqualTo(session.Cache.Memory));
    }

    [Test]
    public async Task AStopStringEndsTheTextAndIsNotPartOfIt()
    {
        using var session = _model.CreateSession(options: DemoSessions.Context(256));
        var (pieces, result) = await DemoSessions.Collect(session, Prompt, new GenerationOptions { StopStrings = ["nowhere", "\n"] });
        Assert.That((result.Text, result.FinishReason, result.StopString), Is.EqualTo((Answer, FinishReason.Stop, "\n")));
        Assert.That(string.Concat(pieces.Select(piece => piece.Text)), Is.EqualTo(Answer));
    }

    [Test]
    public async Task AFullContextEndsWithLength()
    {
        int prompt = _model.Tokenizer.EncodePrompt(Prompt).Length;
        using var session = _model.CreateSession(options: DemoSessions.Context(prompt + 5));
        var result = await session.CompleteAsync(Prompt, new GenerationOptions { IgnoreEndOfGeneration = true });
        Assert.That((result.FinishReason, result.Ids.Count, session.Tokens.Count), Is.EqualTo((FinishReason.Length, 5, prompt + 5)));
        Assert.That(
            async () => await session.CompleteAsync("x"),
            Throws.TypeOf<KCacheException>().With.Property("Status").EqualTo(Status.Capacity));
        Assert.That(session.Tokens, Has.Count.EqualTo(prompt + 5));
    }

    [Test]
    public async Task APromptLongerThanTheContextIsRefusedBeforeItIsRun()
    {
        using var session = _model.CreateSession(options: DemoSessions.Context(64));
        var steps = new List<PromptProgress>();
        var options = new GenerationOptions { Progress = new Recorder(steps.Add) };
        string longer = Prompt + Prompt + Prompt;
        Assert.That(
            async () => await session.CompleteAsync(longer, options),
            Throws.TypeOf<KCacheException>().With.Message.Contains("64").And.Message.Contains(
                $"{_model.Tokenizer.EncodePrompt(longer).Length} tokens"));
        Assert.That(session.LastResult, Is.Null);
        Assert.That(steps, Is.Empty);
        DemoSessions.AssertUntouched(session, [], 0);
        Assert.That((await session.CompleteAsync("The keeper", new GenerationOptions { MaxTokens = 1 })).Ids, Has.Count.EqualTo(1));
    }

    [Test]
    public async Task ProgressIsToldPerWindowAndPerLayer()
    {
        using var session = _model.CreateSession(options: DemoSessions.Context(256) with { BatchTokens = 16 });
        var steps = new List<PromptProgress>();
        var result = await session.CompleteAsync(Prompt, new GenerationOptions { MaxTokens = 1, Progress = new Recorder(steps.Add) });
        int windows = (result.PromptTokens + 15) / 16;
        Assert.That(steps, Has.Count.EqualTo(windows * (_model.Config.Layers + 1)));
        Assert.That(steps.Select(step => step.Fraction), Is.Ordered.And.All.InRange(0, 1));
        Assert.That(steps[^1], Is.EqualTo(new PromptProgress(result.PromptTokens, result.PromptTokens, 0, 0, _model.Config.Layers)));
    }

    [Test]
    public async Task ASecondPromptCostsOnlyItself()
    {
        using var session = _model.CreateSession(CachePolicy.Full, DemoSessions.Context(512));
        var first = await session.CompleteAsync(Prompt, new GenerationOptions { StopStrings = ["\n"] });
        const string more = "Question: On which day is the market of Jagged Lodge? Answer:";
        var second = await session.CompleteAsync(more, new GenerationOptions { MaxTokens = 10 });
        Assert.That(second.PromptTokens, Is.EqualTo(_model.Tokenizer.Encode(more).Length + 1), "and the last token of the first answer");
        using var whole = _model.CreateSession(CachePolicy.Full, DemoSessions.Context(512));
        int[] ids = [.. _model.Tokenizer.EncodePrompt(Prompt), .. first.Ids, .. _model.Tokenizer.Encode(more)];
        Assert.That((await whole.CompleteAsync(ids, new GenerationOptions { MaxTokens = 10 })).Ids, Is.EqualTo(second.Ids));
    }

    [Test]
    public async Task ASeedGivesTheSameTextAgain()
    {
        var options = new GenerationOptions { MaxTokens = 24, Sampling = new SamplingOptions { Temperature = 1.5f, TopK = 40, Seed = 5 } };
        var texts = new List<IReadOnlyList<int>>();
        foreach (var sampling in (SamplingOptions[])[options.Sampling, options.Sampling, options.Sampling with { Seed = 6 }])
        {
            using var session = _model.CreateSession(options: DemoSessions.Context(256));
            texts.Add((await session.CompleteAsync(Prompt, options with { Sampling = sampling })).Ids);
        }

        Assert.That(texts[1], Is.EqualTo(texts[0]));
        Assert.That(texts[2], Is.Not.EqualTo(texts[0]));
    }

    [Test]
    public async Task SessionsTakeTurns()
    {
        var expected = new List<IReadOnlyList<int>>();
        string[] prompts = [Prompt, "A doctor walked", "Question: Which bird was seen most often? Answer:"];
        var options = new GenerationOptions { MaxTokens = 20 };
        foreach (string prompt in prompts)
        {
            using var session = _model.CreateSession(options: DemoSessions.Context(256));
            expected.Add((await session.CompleteAsync(prompt, options)).Ids);
        }

        var sessions = prompts.Select(_ => _model.CreateSession(options: DemoSessions.Context(256))).ToArray();
        var results = await Task.WhenAll(sessions.Select((session, i) => session.CompleteAsync(prompts[i], options)));
        Assert.That(results.Select(result => result.Ids), Is.EqualTo(expected));
        foreach (var session in sessions)
            session.Dispose();
    }

    [Test]
    public async Task TheCallersThreadDoesNotCompute()
    {
        using var session = _model.CreateSession(options: DemoSessions.Context(256));
        int? computing = null;
        var recorder = new Recorder(_ => computing = Environment.CurrentManagedThreadId);
        var task = session.CompleteAsync(Prompt, new GenerationOptions { MaxTokens = 2, Progress = recorder });
        int caller = Environment.CurrentManagedThreadId;
        await task;
        Assert.That(computing, Is.Not.Null.And.Not.EqualTo(caller));
    }

    [Test]
    public async Task OneGenerationAtATime()
    {
        using var session = _model.CreateSession(options: DemoSessions.Context(256));
        var running = session.CompleteAsync(Prompt, new GenerationOptions { MaxTokens = 64, IgnoreEndOfGeneration = true });
        Assert.That(async () => await session.CompleteAsync(Prompt), Throws.InvalidOperationException);
        Assert.That(() => session.Truncate(0), Throws.InvalidOperationException);
        await running;
        session.Truncate(3);
        DemoSessions.AssertUntouched(session, _model.Tokenizer.EncodePrompt(Prompt)[..3], 3);
    }

    [TestCase(-1)]
    [TestCase(1 << 20)]
    public void AnIdOutsideTheVocabularyIsRefused(int id)
    {
        using var session = _model.CreateSession(options: DemoSessions.Context(256));
        Assert.That(
            async () => await session.CompleteAsync(new[] { 1, id }),
            Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains(id.ToString()));
        Assert.That(async () => await session.CompleteAsync(ReadOnlyMemory<int>.Empty), Throws.ArgumentException, "nothing to continue");
        DemoSessions.AssertUntouched(session, [], 0);
    }

    [Test]
    public void ALimitOfNoTokensRunsThePromptOnly()
    {
        using var session = _model.CreateSession(options: DemoSessions.Context(256));
        var result = session.CompleteAsync(Prompt, new GenerationOptions { MaxTokens = 0 }).Result;
        Assert.That((result.Ids.Count, result.FinishReason), Is.EqualTo((0, FinishReason.Length)));
        Assert.That(session.Cache.Length(0), Is.EqualTo(result.PromptTokens));
    }

    private sealed class Recorder(Action<PromptProgress> told) : IProgress<PromptProgress>
    {
        public void Report(PromptProgress value) => told(value);
    }
}
