using System.Text.Json;
using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Models;

/// <summary>The layers against a plain double-precision Llama, and what is refused when a model is taken from a file.</summary>
public class LlamaModelTests
{
    private static readonly int[] Ids = [.. Enumerable.Range(0, 90).Select(i => i * i * 7 % TinyLlama.Vocabulary)];

    [Test]
    public void EqualsTheReference([Values(EntryKind.Prompt, EntryKind.Decode)] EntryKind kind)
    {
        using var file = new TinyLlama().Open();
        using var context = new ComputeContext(new ContextOptions { Threads = 2 });
        using var model = new LlamaModel(context, file, batchTokens: 96);
        using var cache = new KvCache(context, model.Config.CacheShape, CachePolicy.Full, new CacheOptions { BatchTokens = 96 });
        var expected = new ReferenceLlama(file, model.Config).Run(Ids);
        var found = Logits(model, cache, kind);
        double spread = expected.SelectMany(row => row).Select(value => value * value).Average();
        // The cache holds keys and values with 11 bits.
        Assert.That(Difference(expected, found), Is.LessThan(4e-3 * Math.Sqrt(spread)));
    }

    [Test]
    public void ATiedModelWithoutExtrasEqualsTheReference()
    {
        var tiny = new TinyLlama().Remove("output.weight").Set("llama.rope.scaling.type", "none").Set("llama.rope.dimension_count", 16);
        for (int layer = 0; layer < TinyLlama.Layers; layer++)
        {
            foreach (string name in (string[])["q.bias", "k.bias", "v.bias", "output.bias", "q_norm.weight", "k_norm.weight"])
                tiny.Remove($"blk.{layer}.attn_{name}");
        }

        using var file = tiny.Open();
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, file, batchTokens: 96);
        using var cache = new KvCache(context, model.Config.CacheShape, CachePolicy.Full, new CacheOptions { BatchTokens = 96 });
        Assert.That(model.Config.RopeFactor, Is.EqualTo(1f), "scaling none has no factor");
        var expected = new ReferenceLlama(file, model.Config).Run(Ids);
        double spread = expected.SelectMany(row => row).Select(value => value * value).Average();
        Assert.That(Difference(expected, Logits(model, cache, EntryKind.Prompt)), Is.LessThan(4e-3 * Math.Sqrt(spread)));
    }

    [Test]
    public void LogitsOfSomeRowsAreThoseOfAll()
    {
        using var file = new TinyLlama().Open();
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, file, batchTokens: 96, logitRows: 3);
        using var cache = new KvCache(
            context, model.Config.CacheShape, CachePolicy.Full, new CacheOptions { Sequences = 3, BatchTokens = 96 });
        var all = Logits(model, cache, EntryKind.Prompt);
        cache.Truncate(0, 0);
        var batch = new ForwardBatch(96, 3);
        batch.Add(0, Ids.AsSpan(0, 5), EntryKind.Prompt, LogitRows.Last);
        batch.Add(cache.CreateSequence(), Ids.AsSpan(0, 20), EntryKind.Prompt, LogitRows.None);
        batch.Add(cache.CreateSequence(), Ids.AsSpan(0, 9), EntryKind.Prompt, LogitRows.Last);
        Assert.That(batch.RowsOfLogits.ToArray(), Is.EqualTo(new[] { 4, 33 }));
        model.Forward(cache, batch);
        Assert.That(model.Logits.Rows, Is.EqualTo(2));
        Assert.That(model.Logits.Row(0).SequenceEqual(all[4]), "the same bits");
        Assert.That(model.Logits.Row(1).SequenceEqual(all[8]), "the same bits");
    }

    [Test]
    public void LinearScalingEqualsAnotherProgram()
    {
        string folder = "siblings/models/llama-linear/";
        using var file = GgufFile.Open(TestEnvironment.Shared(folder + "llama-linear.gguf"));
        using var golden = JsonDocument.Parse(File.ReadAllText(TestEnvironment.Shared(folder + "golden.json")));
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, file);
        foreach (var prompt in golden.RootElement.GetProperty("prompts").EnumerateArray())
        {
            using var cache = new KvCache(context, model.Config.CacheShape, CachePolicy.Full, new CacheOptions { Context = 1024 });
            int[] ids = [.. prompt.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];
            int[] positions = [.. prompt.GetProperty("positions").EnumerateArray().Select(position => position.GetInt32())];
            var expected = prompt.GetProperty("logits").EnumerateArray().Select(
                row => row.EnumerateArray().Select(value => value.GetDouble()).ToArray()).ToArray();
            var found = Logits(model, cache, EntryKind.Prompt, ids);
            // f16 keys and values cost up to 0.1 here.
            Assert.That(Difference(expected, [.. positions.Select(position => found[position])]), Is.LessThan(0.1));
        }
    }

    [Test]
    public void FrequencyFactorsAreRefused()
    {
        using var file = GgufFile.Open(TestEnvironment.Shared("siblings/models/llama31/llama31.gguf"));
        AssertRefused(file, "rope_freqs.weight", "llama3");
    }

    [TestCase("blk.1.ffn_up.weight")]
    [TestCase("blk.0.attn_norm.weight")]
    [TestCase("output_norm.weight")]
    public void AMissingTensorIsNamed(string name)
    {
        using var file = new TinyLlama().Remove(name).Open();
        AssertRefused(file, name, "missing");
    }

    [Test]
    public void ATensorOfAnotherShapeIsNamedWithBoth()
    {
        using var file = new TinyLlama().SetTensor("blk.1.attn_k.weight", TinyLlama.Dimension, 31).Open();
        AssertRefused(file, "blk.1.attn_k.weight", "40 x 31");
        using var bias = new TinyLlama().SetTensor("blk.1.attn_k.bias", 31).Open();
        AssertRefused(bias, "blk.1.attn_k.bias", "asks for 32");
    }

    [Test]
    public void AnUnknownTensorIsNamed()
    {
        using var file = new TinyLlama().SetTensor("blk.0.ffn_gate_inp.weight", TinyLlama.Dimension, 4).Open();
        AssertRefused(file, "blk.0.ffn_gate_inp.weight", "does not know");
    }

    [Test]
    public void TheTypeOfWeightsAndNormsIsChecked()
    {
        using var wide = new TinyLlama().Open(GgufTensorType.F16);
        using var context = new ComputeContext();
        using (var model = new LlamaModel(context, wide, batchTokens: 4))
            Assert.That(model.Config.Layers, Is.EqualTo(2));
        using var odd = new TinyLlama().Open(GgufTensorType.I16);
        AssertRefused(odd, "token_embd.weight", "I16");
    }

    [Test]
    public void BadBatchesAreRefusedBeforeAnythingRuns()
    {
        using var file = new TinyLlama().Open();
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, file, batchTokens: 8);
        using var cache = new KvCache(
            context, model.Config.CacheShape, CachePolicy.Full, new CacheOptions { Context = 64, BatchTokens = 8 });
        int sequence = cache.CreateSequence();
        var batch = new ForwardBatch(16);
        Assert.That(() => model.Forward(cache, batch), Throws.ArgumentException, "empty");
        using var foreign = new KvCache(context, model.Config.CacheShape with { Layers = 3 }, CachePolicy.Full);
        Assert.That(() => model.Forward(foreign, batch), Throws.ArgumentException.With.Message.Contains("another model"));
        Assert.That(() => batch.Add(sequence, [], EntryKind.Prompt, LogitRows.None), Throws.ArgumentException);
        batch.Add(sequence, new int[9], EntryKind.Prompt, LogitRows.None);
        Assert.That(() => model.Forward(cache, batch), Throws.ArgumentException.With.Message.Contains("9").And.Message.Contains("8"));
        foreach (int id in (int[])[-1, TinyLlama.Vocabulary])
        {
            batch.Clear();
            batch.Add(sequence, [1, id], EntryKind.Prompt, LogitRows.None);
            Assert.That(
                () => model.Forward(cache, batch), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains(id.ToString()));
        }

        batch.Clear();
        batch.Add(sequence, [1, 2], EntryKind.Prompt, LogitRows.All);
        Assert.That(() => model.Forward(cache, batch), Throws.ArgumentException.With.Message.Contains("reader"));
        Assert.That(cache.Length(sequence), Is.Zero);
    }

    [Test]
    public void AFailingReaderRollsTheForwardBack()
    {
        using var file = new TinyLlama().Open();
        using var context = new ComputeContext();
        using var model = new LlamaModel(context, file, batchTokens: 8);
        using var cache = new KvCache(
            context, model.Config.CacheShape, CachePolicy.Full, new CacheOptions { Context = 64, BatchTokens = 8 });
        var batch = new ForwardBatch(8);
        batch.Add(cache.CreateSequence(), [1, 2, 3], EntryKind.Prompt, LogitRows.All);
        Assert.That(() => model.Forward(cache, batch, (_, _) => throw new InvalidDataException()), Throws.TypeOf<InvalidDataException>());
        Assert.That(cache.Length(0), Is.Zero);
        model.Forward(cache, batch, (_, _) => { });
        Assert.That(cache.Length(0), Is.EqualTo(3));
    }

    [Test]
    public void ARefusedModelGivesEverythingBack()
    {
        using var context = new ComputeContext();
        using var file = new TinyLlama().Remove("blk.1.ffn_down.weight").Open();
        Assert.That(() => new LlamaModel(context, file), Throws.TypeOf<ModelFormatException>());
        Assert.That(context.Info.LiveObjects, Is.Zero);
        using var whole = new TinyLlama().Open();
        new LlamaModel(context, whole).Dispose();
        Assert.That(context.Info.LiveObjects, Is.Zero);
    }

    internal static float[][] Logits(LlamaModel model, KvCache cache, EntryKind kind, int[]? ids = null)
    {
        ids ??= Ids;
        int sequence = cache.CreateSequence();
        var rows = new float[ids.Length][];
        var batch = new ForwardBatch(model.BatchTokens);
        for (int at = 0; at < ids.Length; at += model.BatchTokens)
        {
            batch.Clear();
            batch.Add(sequence, ids.AsSpan(at, Math.Min(model.BatchTokens, ids.Length - at)), kind, LogitRows.All);
            model.Forward(cache, batch, (first, logits) =>
            {
                for (int i = 0; i < logits.Rows; i++)
                    rows[at + first + i] = logits.Row(i).ToArray();
            });
        }

        return rows;
    }

    private static double Difference(double[][] expected, float[][] found) =>
        expected.Zip(found, (e, f) => e.Zip(f, (a, b) => double.IsFinite(b) ? Math.Abs(a - b) : double.PositiveInfinity).Max()).Max();

    private static void AssertRefused(GgufFile file, string name, string defect)
    {
        using var context = new ComputeContext();
        Assert.That(
            () => new LlamaModel(context, file),
            Throws.TypeOf<ModelFormatException>().With.Message.Contains(name).And.Message.Contains(defect));
    }
}
