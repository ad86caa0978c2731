using System.Text.Json;
using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Models;

/// <summary>The demonstration model: its golden data, and what the cache promises about bits, seen through a whole model.</summary>
public class DemoModelTests
{
    private static readonly CacheOptions Small = new() { Context = 512 };

    private GgufFile _file = null!;
    private int[][] _prompts = null!;
    private int[][] _greedy = null!;

    [OneTimeSetUp]
    public void ReadGolden()
    {
        using var golden = JsonDocument.Parse(File.ReadAllText(TestEnvironment.Demo("golden/golden.json")));
        int[] Ids(string prompt, string name) =>
            [.. golden.RootElement.GetProperty(prompt).GetProperty(name).EnumerateArray().Select(id => id.GetInt32())];
        _prompts = [Ids("plain", "ids"), Ids("chat", "ids")];
        _greedy = [Ids("plain", "greedy"), Ids("chat", "greedy")];
        _file = GgufFile.Open(TestEnvironment.DemoModelPath);
    }

    [OneTimeTearDown]
    public void CloseFile() => _file.Dispose();

    [Test]
    public void LogitsEqualTheDoublePrecisionReference()
    {
        using var context = new ComputeContext(new ContextOptions { Activations = Activations.F32 });
        using var model = new LlamaModel(context, _file);
        using var cache = new KvCache(context, model.Config.CacheShape, CachePolicy.Full, Small);
        int[] ids = _prompts[0][..100];
        var expected = new ReferenceLlama(_file, model.Config).Run(ids);
        var found = LlamaModelTests.Logits(model, cache, EntryKind.Prompt, ids);
        for (int t = 0; t < ids.Length; t++)
        {
            for (int i = 0; i < expected[t].Length; i++)
                Assert.That(found[t][i], Is.EqualTo(expected[t][i]).Within(0.05), $"token {t}, logit {i}: f16 keys and values");
        }
    }

    [Test]
    public void LogitsAreCloseToTheGoldenOnes([Values] Activations activations)
    {
        var golden = GoldenLogits.Read(TestEnvironment.Demo("golden/logits.npy"));
        using var context = new ComputeContext(new ContextOptions { Activations = activations });
        using var model = new LlamaModel(context, _file);
        for (int p = 0; p < _prompts.Length; p++)
        {
            using var cache = new KvCache(context, model.Config.CacheShape, CachePolicy.Full, Small);
            float[] found = LlamaModelTests.Logits(model, cache, EntryKind.Prompt, _prompts[p])[^1];
            double largest = golden[p].Zip(found, (a, b) => (double)Math.Abs(a - b)).Max();
            // The golden logits are those of the f16 file; rounding the weights to Q8_0 moves them by up to 0.1.
            Assert.That(largest, Is.LessThan(activations == Activations.F32 ? 0.15 : 0.6));
        }
    }

    [Test]
    public void GreedyContinuationsAreEqual([Values] Activations activations, [Values(PolicyKind.Full, PolicyKind.KCache)] PolicyKind kind)
    {
        using var context = new ComputeContext(new ContextOptions { Activations = activations });
        using var model = new LlamaModel(context, _file);
        for (int p = 0; p < _prompts.Length; p++)
        {
            using var cache = new KvCache(context, model.Config.CacheShape, CachePolicy.For(kind), Small);
            Assert.That(Greedy(model, cache, _prompts[p], _greedy[p].Length), Is.EqualTo(_greedy[p]));
        }
    }

    [Test]
    public void BitsDependOnNeitherThreadsNorWindowsNorBatch()
    {
        int[] ids = _prompts[0][..150];
        float[][]? first = null;
        foreach (var (threads, window) in ((int, int)[])[(1, 512), (2, 512), (3, 64), (2, 17), (2, 1)])
        {
            using var context = new ComputeContext(new ContextOptions { Threads = threads });
            using var model = new LlamaModel(context, _file, window);
            using var cache = new KvCache(context, model.Config.CacheShape, CachePolicy.Full, Small with { BatchTokens = window });
            var found = LlamaModelTests.Logits(model, cache, EntryKind.Prompt, ids);
            first ??= found;
            AssertSameBits(first, found, $"{threads} threads, windows of {window}");
        }
    }

    [Test]
    public void EnoughRowsGiveTheBitsOfFull([Values(Codec.F16, Codec.Q8)] Codec keys, [Values(Codec.F16, Codec.Q8)] Codec values)
    {
        int[] prompt = _prompts[0], steps = [.. _greedy[0], .. _prompts[1][..40]];
        var full = Steps(CachePolicy.Full with { KeyCodec = keys, ValueCodec = values }, prompt, steps);
        foreach (var policy in (CachePolicy[])[
            CachePolicy.KCache with { Keep = 512 },
            CachePolicy.KCache with { Keep = 512, DenseLayers = 0, Select = RowSelection.Union },
            CachePolicy.KCache with { Keep = 0, Recent = 512 },
            CachePolicy.KCache with { Keep = 1, DenseLayers = 4 },
            CachePolicy.Window with { Recent = 512 }])
        {
            AssertSameBits(full, Steps(policy with { KeyCodec = keys, ValueCodec = values }, prompt, steps), policy.ToString());
        }
    }

    [Test]
    public void ABoundOfTheTailIsKept()
    {
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, _file);
        foreach (float bound in (float[])[0, 0.05f])
        {
            using var cache = new KvCache(context, model.Config.CacheShape, CachePolicy.KCache with { Keep = 2, MaxTail = bound }, Small);
            int sequence = cache.CreateSequence();
            Prompt(model, cache, sequence, _prompts[0]);
            Decode(model, cache, sequence, _greedy[0], 512);
            var steps = cache.Statistics();
            Assert.That(steps.TailMax, bound == 0 ? Is.GreaterThan(0.05) : Is.LessThanOrEqualTo(0.05 + 1e-4));
            Assert.That(steps.BoundMissed, Is.Zero);
            Assert.That(steps.RowsSelectedMean, bound == 0 ? Is.EqualTo(2) : Is.GreaterThan(2));
        }
    }

    [Test]
    public void FewRowsAreNotTheBitsOfFull()
    {
        int[] prompt = _prompts[0], steps = _greedy[0];
        var full = Steps(CachePolicy.Full, prompt, steps);
        foreach (var policy in (CachePolicy[])[
            CachePolicy.KCache with { Keep = 4, Recent = 4 },
            CachePolicy.KCache with { Keep = 4, Recent = 4, Mode = MixMode.ExactWeights },
            CachePolicy.Window with { Recent = 64 }])
        {
            var found = Steps(policy, prompt, steps);
            Assert.That(full.Zip(found, (a, b) => a.AsSpan().SequenceEqual(b)), Has.Some.False, policy.ToString());
        }
    }

    [Test]
    public void ATextOfDecodeStepsIsTheSameAsOneStepEach([Values(PolicyKind.KCache, PolicyKind.Sketch)] PolicyKind kind)
    {
        int[] prompt = _prompts[0], steps = _greedy[0];
        var policy = CachePolicy.For(kind) with { Keep = 16, Recent = 8 };
        AssertSameBits(Steps(policy, prompt, steps), Steps(policy, prompt, steps, window: 1), "one forward, or one each");
    }

    [Test]
    public void AFullBudgetAndTheSmallestGiveTheSameBits([Values(PolicyKind.KCache, PolicyKind.Sketch)] PolicyKind kind)
    {
        int[] prompt = _prompts[0], steps = _greedy[0];
        var policy = CachePolicy.For(kind) with { Keep = 16, Recent = 8 };
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, _file, 64);
        var options = new CacheOptions { Context = 4096, BatchTokens = 64 };
        long minimum = KvCache.Plan(context, model.Config.CacheShape, policy, options).FastMinimumBytes;
        string text = File.ReadAllText(TestEnvironment.Demo("archives/archive-1k.txt"));
        int[] ids = [.. Tokenizer.FromGguf(_file).Encode(text), .. prompt];
        float[][]? resident = null;
        foreach (long budget in (long[])[0, minimum])
        {
            using var cache = new KvCache(
                context, model.Config.CacheShape, policy, options with { FastBudgetBytes = budget, SpillDirectory = SpillDirectory });
            int sequence = cache.CreateSequence();
            Prompt(model, cache, sequence, ids);
            var found = Decode(model, cache, sequence, steps, 64);
            resident ??= found;
            AssertSameBits(resident, found, $"budget {budget}");
            if (budget > 0)
                Assert.That(cache.Statistics().RowsRestored, Is.GreaterThan(0), "rows came from the file");
        }
    }

    [Test]
    public void ACopiedPromptGivesTheBitsOfOneThatIsRun([Values(PolicyKind.KCache, PolicyKind.Sketch)] PolicyKind kind)
    {
        int[] prompt = _prompts[0], steps = _greedy[0];
        var policy = CachePolicy.For(kind) with { Keep = 16, Recent = 8 };
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, _file);
        using var full = new KvCache(context, model.Config.CacheShape, CachePolicy.Full, Small);
        using var copied = new KvCache(context, model.Config.CacheShape, policy, Small);
        full.FreeSequence(full.CreateSequence());
        int sequence = full.CreateSequence(), copy = copied.CreateSequence();
        var batch = new ForwardBatch(256);
        batch.Add(sequence, prompt, EntryKind.Prompt, LogitRows.None);
        model.Forward(full, batch, copies: [new PromptCopy(copied, copy)]);
        Assert.That(copied.Length(copy), Is.EqualTo(prompt.Length));
        AssertSameBits(Steps(policy, prompt, steps), Decode(model, copied, copy, steps, 64), policy.ToString());
        batch.Clear();
        batch.Add(sequence, [steps[0]], EntryKind.Decode, LogitRows.None);
        Assert.That(() => model.Forward(full, batch, copies: [new PromptCopy(copied, copy)]), Throws.ArgumentException);
        Assert.That(full.Length(sequence), Is.EqualTo(prompt.Length), "a refused copy leaves the sequence as it was");
    }

    [Test]
    public void ADecodeStepAllocatesNothing(
        [Values] PolicyKind kind, [Values] bool spilled)
    {
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, _file, 64);
        var options = new CacheOptions { Context = 1024, BatchTokens = 64, SpillDirectory = SpillDirectory };
        long minimum = KvCache.Plan(context, model.Config.CacheShape, CachePolicy.For(kind), options).FastMinimumBytes;
        if (spilled)
            options = options with { FastBudgetBytes = minimum };
        using var cache = new KvCache(context, model.Config.CacheShape, CachePolicy.For(kind), options);
        int sequence = cache.CreateSequence();
        Prompt(model, cache, sequence, _prompts[0]);
        var batch = new ForwardBatch(1);
        void Step(int token)
        {
            batch.Clear();
            batch.Add(sequence, new ReadOnlySpan<int>(in token), EntryKind.Decode, LogitRows.Last);
            model.Forward(cache, batch);
        }

        Step(_greedy[0][0]);
        long managed = GC.GetAllocatedBytesForCurrentThread(), native = context.Allocations;
        for (int i = 1; i < 100; i++)
            Step(_greedy[0][i % 32]);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - managed, Is.Zero, "managed bytes");
        Assert.That(context.Allocations, Is.EqualTo(native), "native allocations");
    }

    [Test]
    public void TwoContextsInTwoThreadsDoNotDisturbEachOther()
    {
        int[][] Answers()
        {
            using var context = new ComputeContext(new ContextOptions { Threads = 2 });
            using var model = new LlamaModel(context, _file);
            return [.. _prompts.Select((prompt, p) =>
            {
                using var cache = new KvCache(context, model.Config.CacheShape, CachePolicy.KCache, Small);
                return Greedy(model, cache, prompt, _greedy[p].Length);
            })];
        }

        var tasks = Enumerable.Range(0, 2).Select(_ => Task.Factory.StartNew(Answers, TaskCreationOptions.LongRunning)).ToArray();
        foreach (var task in tasks)
            Assert.That(task.Result, Is.EqualTo(_greedy));
    }

    [Test]
    public void SequencesOfOneForwardDoNotDisturbEachOther()
    {
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, _file, 512, logitRows: 2);
        using var cache = new KvCache(
            context, model.Config.CacheShape, CachePolicy.KCache, Small with { Sequences = 2, BatchTokens = 512 });
        int[] sequences = [cache.CreateSequence(), cache.CreateSequence()];
        var found = new List<int>[] { [], [] };
        var batch = new ForwardBatch(512, 2);
        for (int step = 0; step < 32; step++)
        {
            batch.Clear();
            for (int p = 0; p < 2; p++)
            {
                var (ids, kind) = step == 0 ? (_prompts[p], EntryKind.Prompt) : ([found[p][^1]], EntryKind.Decode);
                batch.Add(sequences[p], ids, kind, LogitRows.Last);
            }

            model.Forward(cache, batch);
            var best = new int[2];
            Ops.ArgMax(context, model.Logits, best);
            for (int p = 0; p < 2; p++)
                found[p].Add(best[p]);
        }

        Assert.That(found, Is.EqualTo(_greedy));
    }

    internal static string? SpillDirectory => Directory.Exists("/var/tmp") ? "/var/tmp" : null;

    private static void AssertSameBits(float[][] expected, float[][] found, string what)
    {
        for (int row = 0; row < expected.Length; row++)
            Assert.That(found[row].AsSpan().SequenceEqual(expected[row]), $"{what}: row {row} differs");
    }

    private static int[] Greedy(LlamaModel model, KvCache cache, int[] prompt, int count)
    {
        int sequence = cache.CreateSequence();
        var batch = new ForwardBatch(model.BatchTokens);
        var found = new int[count];
        for (int i = 0; i < count; i++)
        {
            batch.Clear();
            batch.Add(sequence, i == 0 ? prompt : [found[i - 1]], i == 0 ? EntryKind.Prompt : EntryKind.Decode, LogitRows.Last);
            model.Forward(cache, batch);
            Ops.ArgMax(model.Context, model.Logits, found.AsSpan(i, 1));
        }

        return found;
    }

    private float[][] Steps(CachePolicy policy, int[] prompt, int[] steps, int window = 512)
    {
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, _file);
        using var cache = new KvCache(context, model.Config.CacheShape, policy, Small);
        int sequence = cache.CreateSequence();
        Prompt(model, cache, sequence, prompt);
        return Decode(model, cache, sequence, steps, window);
    }

    private static void Prompt(LlamaModel model, KvCache cache, int sequence, int[] ids)
    {
        var batch = new ForwardBatch(model.BatchTokens);
        for (int at = 0; at < ids.Length; at += model.BatchTokens)
        {
            batch.Clear();
            batch.Add(sequence, ids.AsSpan(at, Math.Min(model.BatchTokens, ids.Length - at)), EntryKind.Prompt, LogitRows.None);
            model.Forward(cache, batch);
        }
    }

    private static float[][] Decode(LlamaModel model, KvCache cache, int sequence, int[] ids, int window)
    {
        var rows = new float[ids.Length][];
        var batch = new ForwardBatch(model.BatchTokens);
        for (int at = 0; at < ids.Length; at += window)
        {
            batch.Clear();
            batch.Add(sequence, ids.AsSpan(at, Math.Min(window, ids.Length - at)), EntryKind.Decode, LogitRows.All);
            model.Forward(cache, batch, (first, logits) =>
            {
                for (int i = 0; i < logits.Rows; i++)
                    rows[at + first + i] = logits.Row(i).ToArray();
            });
        }

        return rows;
    }
}
