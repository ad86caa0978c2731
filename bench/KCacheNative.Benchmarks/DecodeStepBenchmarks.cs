using BenchmarkDotNet.Attributes;
using KCacheNative.Benchmarks.Decode;
using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>A whole decode step, logits included, of a model of the shape of SmolLM2-135M with random weights in Q8_0.</summary>
public class DecodeStepBenchmarks : IWorkload
{
    private static readonly Lazy<PolicyKind[]> Offered = new(AskWhatIsOffered);

    private GgufFile _file = null!;
    private ComputeContext _context = null!;
    private DecodeSession _session = null!;

    /// <summary>What the step reads of the cache.</summary>
    [ParamsSource(nameof(Policies))]
    public PolicyKind Policy { get; set; } = PolicyKind.Full;

    /// <summary>Tokens in the cache.</summary>
    [Params(0, 2048, 8192, 32768)]
    public int Depth { get; set; }

    /// <summary>The values of <see cref="Policy"/>: those that the library offers.</summary>
    public static IEnumerable<PolicyKind> Policies => Offered.Value;

    /// <summary>Makes the weights and fills the cache with random rows.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _file = LlamaShape.SmolLM2.Open(GgufTensorType.Q8_0);
        _context = new ComputeContext();
        _session = new DecodeSession(_context, _file, CachePolicy.For(Policy), new CacheOptions { Context = Depth + CacheLayers.PageTokens });
        _session.Fill(Depth);
    }

    /// <summary>One token; it is taken back, so that the depth stays.</summary>
    [Benchmark]
    public void Step()
    {
        _session.Step();
        _session.Rewind(Depth);
    }

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _session.Dispose();
        _context.Dispose();
        _file.Dispose();
    }

    /// <summary>The weights once, and per layer what the stems of the policy read.</summary>
    public Work WorkOf(string benchmark)
    {
        var shape = LlamaShape.SmolLM2;
        var attention = shape.Attention;
        int queries = attention.QueryHeads * attention.HeadDimension, keys = attention.KeyValueHeads * attention.HeadDimension;
        long perLayer = shape.Dimension * ((2L * queries) + (2L * keys) + (3L * shape.FeedForward));
        double weights = RandomWeights.Bytes(GgufTensorType.Q8_0, 1, (shape.Layers * perLayer) + ((long)shape.Vocabulary * shape.Dimension));

        var policy = CachePolicy.For(Policy);
        var full = new LayerStores(attention, Codec.F16, Codec.F16, ExactRows.None);
        var (stores, keep) = Policy switch
        {
            PolicyKind.KCache => (new LayerStores(attention, Codec.F16, Codec.Default, ExactRows.Values), policy.Keep),
            PolicyKind.Sketch => (new LayerStores(attention, policy.KeyCodec, policy.ValueSketch, ExactRows.KeysAndValues), policy.Keep),
            _ => (full, -1),
        };
        double tokens = Depth + 1;
        double Layer(LayerStores layer, int kept) =>
            AttentionScoreBenchmarks.Traffic(layer, tokens).Bytes + AttentionMixBenchmarks.Traffic(layer, tokens, kept).Bytes;
        return new(weights + (policy.DenseLayers * Layer(full, -1)) + ((shape.Layers - policy.DenseLayers) * Layer(stores, keep)));
    }

    private static PolicyKind[] AskWhatIsOffered()
    {
        var attention = AttentionShape.SmolLM2;
        var shape = new CacheShape(1, attention.QueryHeads, attention.KeyValueHeads, attention.HeadDimension, TrainedContext: 256);
        using var context = new ComputeContext(new ContextOptions { Threads = 1 });
        var offered = new List<PolicyKind>();
        foreach (var kind in (ReadOnlySpan<PolicyKind>)[PolicyKind.Full, PolicyKind.KCache, PolicyKind.Sketch])
        {
            try
            {
                KvCache.Plan(context, shape, CachePolicy.For(kind));
                offered.Add(kind);
            }
            catch (KCacheException exception) when (exception.Status == Status.Unsupported)
            {
                System.Console.WriteLine($"DecodeStepBenchmarks leaves {kind} out: {exception.Message}");
            }
        }

        return [.. offered];
    }
}
