using KCacheNative.Engine;
using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Engine;

/// <summary>Loading, planning, scoring, batches, and giving everything back.</summary>
public class LanguageModelTests
{
    private LanguageModel _model = null!;

    [OneTimeSetUp]
    public void Load() => _model = DemoSessions.Load();

    [OneTimeTearDown]
    public void Unload() => _model.Dispose();

    [Test]
    public void LoadingTellsItsProgress()
    {
        var told = new List<LoadProgress>();
        using var model = LanguageModel.Load(TestEnvironment.DemoModelPath, new ModelOptions { Progress = new Recorder(told) });
        Assert.That(told, Is.Not.Empty);
        Assert.That(told[^1], Is.EqualTo(new LoadProgress(model.File.LengthBytes, model.File.LengthBytes)));
    }

    [Test]
    public void LoadingCanBeCancelled() =>
        Assert.That(
            () => LanguageModel.Load(TestEnvironment.DemoModelPath, cancellationToken: new CancellationToken(true)),
            Throws.InstanceOf<OperationCanceledException>());

    [Test]
    public void AMissingFileIsNamed() =>
        Assert.That(
            () => LanguageModel.Load("/nowhere/model.gguf"), Throws.TypeOf<KCacheException>().With.Message.Contains("/nowhere/model.gguf"));

    [Test]
    public void ThePlanIsWhatIsTaken([Values(PolicyKind.Full, PolicyKind.Window, PolicyKind.KCache)] PolicyKind kind)
    {
        var policy = CachePolicy.For(kind);
        var options = new CacheOptions { Context = 2000, Sequences = 2 };
        var plan = MemoryPlan.For(_model.File, policy, options, _model.Context);
        using var cache = _model.CreateCache(policy, options);
        Assert.That(plan.Cache.FastBytes, Is.EqualTo(cache.Memory.FastBytes));
        Assert.That(plan.WeightsBytes, Is.InRange(3_000_000, _model.File.LengthBytes));
        Assert.That(plan.Options, Is.EqualTo(cache.Options));

        using var context = new ComputeContext();
        long before = context.Info.LiveBytes;
        using var model = new LlamaModel(context, _model.File, plan.Options.BatchTokens, 2);
        long taken = context.Info.LiveBytes - before;
        // Whether a context counts wrapped files and its own scratch is its affair; activations are the least.
        Assert.That(
            plan.ActivationsBytes, Is.LessThanOrEqualTo(taken).And.GreaterThan(plan.Options.BatchTokens * 4L * _model.Config.Dimension));
        Assert.That(plan.FastBytes, Is.EqualTo(plan.WeightsBytes + plan.ActivationsBytes + plan.CuBlasBytes + plan.Cache.FastBytes));
    }

    [Test]
    public void ScoringDecodeStepsGivesTheLogitsOfEach()
    {
        int[] ids = _model.Tokenizer.Encode(DemoSessions.Archive("1k"))[..300];
        var policy = CachePolicy.KCache with { Keep = 8 };
        float[][] Score(int window)
        {
            using var cache = _model.CreateCache(policy, new CacheOptions { Context = 512, BatchTokens = window });
            int sequence = cache.CreateSequence();
            _model.RunPrompt(cache, sequence, ids.AsMemory(0, 100), LogitRows.None);
            var rows = new float[200][];
            _model.ScoreDecode(cache, sequence, ids.AsMemory(100), (first, logits) =>
            {
                for (int i = 0; i < logits.Rows; i++)
                    rows[first + i] = logits.Row(i).ToArray();
            });
            Assert.That(cache.Statistics().Steps, Is.EqualTo(200));
            return rows;
        }

        var whole = Score(512);
        var pieces = Score(33);
        for (int row = 0; row < whole.Length; row++)
            Assert.That(pieces[row].AsSpan().SequenceEqual(whole[row]), $"row {row}");
    }

    [Test]
    public void AFailingReaderLeavesTheSequenceAsItWas()
    {
        using var cache = _model.CreateCache(CachePolicy.Full, new CacheOptions { Context = 128, BatchTokens = 16 });
        int sequence = cache.CreateSequence();
        _model.RunPrompt(cache, sequence, new[] { 5, 6, 7 });
        Assert.That(
            () => _model.ScoreDecode(
                cache, sequence, Enumerable.Range(5, 60).ToArray(), (first, _) => { if (first >= 32) throw new InvalidDataException(); }),
            Throws.TypeOf<InvalidDataException>());
        Assert.That(cache.Length(sequence), Is.EqualTo(3));
        Assert.That(
            () => _model.ScoreDecode(cache, sequence, new int[126], (_, _) => Assert.Fail("nothing runs")),
            Throws.TypeOf<KCacheException>().With.Message.Contains("126").And.Message.Contains("128"));
    }

    [Test]
    public void ABatchGivesEachTextWhatItGetsAlone([Values] PolicyKind kind)
    {
        string[] prompts =
        [
            "The keeper of Amber Harbor is Mira Holt.\n\nQuestion: Who keeps Amber Harbor? Answer:",
            "The flag of Icy Dock is red.\n\nQuestion: What colour is the flag of Icy Dock? Answer:",
            DemoSessions.Archive("1k")[..1500],
        ];
        var options = new GenerationOptions { MaxTokens = 20, StopStrings = ["\n"] };
        var alone = prompts.Select(prompt =>
        {
            using var session = _model.CreateSession(CachePolicy.For(kind), DemoSessions.Context(600));
            return session.CompleteAsync(prompt, options).Result;
        }).ToArray();
        using var cache = _model.CreateCache(CachePolicy.For(kind), new CacheOptions { Context = 600, Sequences = 2 });
        var together = new BatchGenerator(_model, cache).Generate(
            [.. prompts.Select(prompt => (ReadOnlyMemory<int>)_model.Tokenizer.EncodePrompt(prompt))], options);
        Assert.That(together.Select(result => result.Ids), Is.EqualTo(alone.Select(result => result.Ids)));
        Assert.That(
            together.Select(result => (result.Text, result.FinishReason)),
            Is.EqualTo(alone.Select(result => (result.Text, result.FinishReason))));
        Assert.That(cache.CreateSequence(), Is.Zero, "the sequences were closed");
    }

    [Test]
    public void DisposingGivesEverythingBack()
    {
        var before = _model.Context.Info;
        using (var session = _model.CreateSession(options: DemoSessions.Context(256)))
            session.CompleteAsync("The", new GenerationOptions { MaxTokens = 3 }).Wait();
        Assert.That((_model.Context.Info.LiveBytes, _model.Context.Info.LiveObjects), Is.EqualTo((before.LiveBytes, before.LiveObjects)));

        var model = DemoSessions.Load();
        model.CreateSession(options: DemoSessions.Context(256)).Dispose();
        model.Dispose();
        Assert.That(() => model.File.Tensors[0].Pointer, Throws.InstanceOf<ObjectDisposedException>(), "the file is closed");
        Assert.That(() => model.CreateSession(), Throws.InstanceOf<ObjectDisposedException>());
    }

    [Test]
    public void PeakMemoryIsKnown() =>
        Assert.That(ProcessMemory.PeakResidentBytes, Is.GreaterThan(10_000_000).And.GreaterThanOrEqualTo(Environment.WorkingSet / 2));

    private sealed class Recorder(List<LoadProgress> told) : IProgress<LoadProgress>
    {
        public void Report(LoadProgress value) => told.Add(value);
    }
}
