using System.Diagnostics;
using KCacheNative.Engine;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Engine;

/// <summary>A generation that is cancelled ends within 200 ms and leaves the session as it was.</summary>
public class CancellationTests
{
    private const int Attempts = 4;

    private static readonly TimeSpan Soon = TimeSpan.FromMilliseconds(200);

    private LanguageModel _model = null!;

    [OneTimeSetUp]
    public void Load() => _model = DemoSessions.Load();

    [OneTimeTearDown]
    public void Unload() => _model.Dispose();

    [Test]
    public async Task InAPrompt([Values(PolicyKind.Full, PolicyKind.KCache, PolicyKind.Window)] PolicyKind kind)
    {
        using var session = _model.CreateSession(CachePolicy.For(kind));
        var first = await session.CompleteAsync("The keeper of Amber Harbor is Mira Holt.", new GenerationOptions { MaxTokens = 3 });
        int[] tokens = [.. session.Tokens];
        string archive = DemoSessions.Archive("8k")[..^200];
        // Late windows are the slow ones; a machine that is busy elsewhere may miss the time once, not always.
        await AssertEndsSoon(async cancellation =>
        {
            var late = new CancelAt(cancellation, progress => progress is { DoneTokens: > 4000, DoneLayers: 1 });
            var options = new GenerationOptions { Progress = late };
            await foreach (var _ in session.GenerateAsync(archive, options, cancellation.Token))
                Assert.Fail("no token comes out of a prompt that was cancelled");
        });
        Assert.That(session.LastResult!.FinishReason, Is.EqualTo(FinishReason.Cancelled));
        Assert.That(session.Tokens, Is.EqualTo(tokens));
        Assert.That(session.Cache.Length(0), Is.LessThan(tokens.Length));

        var next = await session.CompleteAsync(" The", new GenerationOptions { MaxTokens = 8 });
        using var undisturbed = _model.CreateSession(CachePolicy.For(kind));
        await undisturbed.CompleteAsync("The keeper of Amber Harbor is Mira Holt.", new GenerationOptions { MaxTokens = 3 });
        Assert.That((await undisturbed.CompleteAsync(" The", new GenerationOptions { MaxTokens = 8 })).Ids, Is.EqualTo(next.Ids));
        Assert.That(first.Ids, Has.Count.EqualTo(3));
    }

    [Test]
    public async Task InDecodeSteps()
    {
        using var session = _model.CreateSession();
        int[] archive = _model.Tokenizer.Encode(DemoSessions.Archive("4k"));
        await session.CompleteAsync(archive, new GenerationOptions { MaxTokens = 1 });
        int[] tokens = [.. session.Tokens];
        int generated = 0;
        await AssertEndsSoon(async cancellation =>
        {
            generated = 0;
            var options = new GenerationOptions { IgnoreEndOfGeneration = true };
            await foreach (var _ in session.GenerateAsync(" Then", options, cancellation.Token))
            {
                if (++generated == 5)
                    cancellation.Cancel();
            }
        });
        Assert.That(generated, Is.GreaterThanOrEqualTo(5));
        Assert.That(session.LastResult!.Ids, Has.Count.GreaterThanOrEqualTo(5), "what was generated is told");
        DemoSessions.AssertUntouched(session, tokens, tokens.Length);
    }

    [Test]
    public void BeforeItBegins()
    {
        using var session = _model.CreateSession(options: DemoSessions.Context(64));
        Assert.That(
            async () => await session.CompleteAsync("The", null, new CancellationToken(true)),
            Throws.InstanceOf<OperationCanceledException>());
        DemoSessions.AssertUntouched(session, [], 0);
    }

    [Test]
    public async Task LeavingTheEnumerationEarlyIsACancellation()
    {
        using var session = _model.CreateSession(options: DemoSessions.Context(256));
        await foreach (var _ in session.GenerateAsync("The keeper of"))
            break;
        DemoSessions.AssertUntouched(session, [], 0);
        Assert.That((await session.CompleteAsync("The keeper of", new GenerationOptions { MaxTokens = 2 })).Ids, Has.Count.EqualTo(2));
    }

    [Test]
    public void OfTheSynchronousMembers()
    {
        using var cache = _model.CreateCache(CachePolicy.KCache, new CacheOptions { Context = 2048, BatchTokens = 128 });
        int sequence = cache.CreateSequence();
        int[] ids = _model.Tokenizer.Encode(DemoSessions.Archive("1k"));
        _model.RunPrompt(cache, sequence, ids.AsMemory(0, 10));
        using var cancellation = new CancellationTokenSource();
        var progress = new CancelAt(cancellation, step => step.DoneTokens > 200);
        Assert.That(
            () => _model.RunPrompt(cache, sequence, ids, progress: progress, cancellationToken: cancellation.Token),
            Throws.InstanceOf<OperationCanceledException>());
        Assert.That(
            () => _model.ScoreDecode(cache, sequence, ids, (_, _) => { }, progress, cancellation.Token),
            Throws.InstanceOf<OperationCanceledException>());
        Assert.That(cache.Length(sequence), Is.EqualTo(10));
    }

    [Test]
    public void DisposingTheModelEndsGenerations()
    {
        var model = DemoSessions.Load();
        var session = model.CreateSession(options: DemoSessions.Context(4096));
        var running = session.CompleteAsync("The", new GenerationOptions { IgnoreEndOfGeneration = true });
        model.Dispose();
        Assert.That(async () => await running, Throws.InstanceOf<OperationCanceledException>());
        session.Dispose();
    }

    private static async Task AssertEndsSoon(Func<CancellationTokenSource, Task> generate)
    {
        var best = TimeSpan.MaxValue;
        for (int i = 0; i < Attempts && best > Soon; i++)
        {
            using var cancellation = new CancellationTokenSource();
            long cancelled = 0;
            using var registration = cancellation.Token.Register(() => cancelled = Stopwatch.GetTimestamp());
            try
            {
                await generate(cancellation);
                Assert.Fail("it was not cancelled");
            }
            catch (OperationCanceledException)
            {
                var time = Stopwatch.GetElapsedTime(cancelled);
                best = time < best ? time : best;
            }
        }

        Assert.That(best, Is.LessThan(Soon));
    }

    private sealed class CancelAt(CancellationTokenSource cancellation, Func<PromptProgress, bool> when) : IProgress<PromptProgress>
    {
        public void Report(PromptProgress value)
        {
            if (when(value))
                cancellation.Cancel();
        }
    }
}
