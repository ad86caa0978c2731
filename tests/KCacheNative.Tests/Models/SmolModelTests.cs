using System.Text.Json;
using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Models;

/// <summary>SmolLM2-135M-Instruct against what another program computed: logits and greedy continuations.</summary>
public class SmolModelTests
{
    private const int ContinuedTokens = 24;

    private GgufFile _file = null!;
    private JsonDocument _golden = null!;

    [OneTimeSetUp]
    public void Open()
    {
        _golden = JsonDocument.Parse(File.ReadAllText(TestEnvironment.Shared("golden/continuations.json")));
        _file = GgufFile.Open(TestEnvironment.SmolModelPath);
    }

    [OneTimeTearDown]
    public void Close()
    {
        _file?.Dispose();
        _golden?.Dispose();
    }

    // f32 activations and f16 keys and values move logits by 0.005 (rms); 8-bit activations of another program by 0.13 to 0.27 rms, up to
    // 0.84.
    [TestCase(Activations.F32, 0.02, 0.1)]
    [TestCase(Activations.Q8, 0.35, 1.2)]
    public void LogitsAndContinuationsAreClose(Activations activations, double rms, double largest)
    {
        using var context = new ComputeContext(new ContextOptions { Activations = activations });
        using var model = new LlamaModel(context, _file, batchTokens: 64);
        var batch = new ForwardBatch(64);
        foreach (var row in _golden.RootElement.EnumerateArray())
        {
            using var cache = new KvCache(
                context, model.Config.CacheShape, CachePolicy.Full, new CacheOptions { Context = 256, BatchTokens = 64 });
            int sequence = cache.CreateSequence();
            batch.Clear();
            batch.Add(sequence, [.. row.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())], EntryKind.Prompt, LogitRows.Last);
            model.Forward(cache, batch);
            CompareLogits(row, model.Logits.Row(0), rms, largest);
            if (activations == Activations.F32)
                CompareContinuation(row, model, cache, sequence, batch);
        }
    }

    private static void CompareLogits(JsonElement row, ReadOnlySpan<float> logits, double rms, double largest)
    {
        string prompt = row.GetProperty("prompt").GetString()!;
        double squares = 0, worst = 0, most = double.NegativeInfinity, sum = 0, mean = 0, variance = 0;
        var top = row.GetProperty("logits_top64").EnumerateArray().ToArray();
        foreach (var entry in top)
        {
            double difference = Math.Abs(logits[entry[0].GetInt32()] - entry[1].GetDouble());
            squares += difference * difference;
            worst = Math.Max(worst, difference);
        }

        foreach (float logit in logits)
        {
            most = Math.Max(most, logit);
            mean += (double)logit / logits.Length;
        }

        foreach (float logit in logits)
        {
            sum += Math.Exp(logit - most);
            variance += (logit - mean) * (logit - mean) / (logits.Length - 1);
        }

        Assert.That(Math.Sqrt(squares / top.Length), Is.LessThan(rms), $"rms of the 64 best behind {prompt}");
        Assert.That(worst, Is.LessThan(largest), $"largest of the 64 best behind {prompt}");
        Assert.That(most + Math.Log(sum), Is.EqualTo(row.GetProperty("logsumexp").GetDouble()).Within(largest), prompt);
        Assert.That(mean, Is.EqualTo(row.GetProperty("logits_mean").GetDouble()).Within(rms), prompt);
        Assert.That(Math.Sqrt(variance), Is.EqualTo(row.GetProperty("logits_std").GetDouble()).Within(rms), prompt);
    }

    private static void CompareContinuation(JsonElement row, LlamaModel model, KvCache cache, int sequence, ForwardBatch batch)
    {
        int[] greedy = [.. row.GetProperty("greedy").EnumerateArray().Select(id => id.GetInt32())];
        double[] margins = [.. row.GetProperty("margins").EnumerateArray().Select(margin => margin.GetDouble())];
        var best = new int[1];
        for (int i = 0; i < Math.Min(greedy.Length, ContinuedTokens); i++)
        {
            Ops.ArgMax(model.Context, model.Logits, best);
            if (best[0] != greedy[i])
            {
                Assert.That(margins[i], Is.LessThan(0.15), $"parts at token {i} behind {row.GetProperty("prompt").GetString()}");
                return;
            }

            batch.Clear();
            batch.Add(sequence, best, EntryKind.Decode, LogitRows.Last);
            model.Forward(cache, batch);
        }
    }
}
