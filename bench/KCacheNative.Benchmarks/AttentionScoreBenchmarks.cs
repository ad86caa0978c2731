using BenchmarkDotNet.Attributes;
using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>Stem attention_score: the keys of one layer against the queries of one decode step.</summary>
public class AttentionScoreBenchmarks : IWorkload
{
    private ComputeContext _context = null!;
    private CacheLayers _layers = null!;
    private DecodeWave _wave = null!;

    /// <summary>Heads.</summary>
    [ParamsSource(nameof(Shapes))]
    public AttentionShape Shape { get; set; } = AttentionShape.SmolLM2;

    /// <summary>Codec of the keys.</summary>
    [Params(Codec.F16, Codec.Q8, Codec.Q4, Codec.Q3, Codec.Q2)]
    public Codec Keys { get; set; } = Codec.F16;

    /// <summary>Tokens of the sequence.</summary>
    [Params(2048, 8192, 32768)]
    public int Tokens { get; set; } = 2048;

    /// <summary>The values of <see cref="Shape"/>.</summary>
    public static IEnumerable<AttentionShape> Shapes => [AttentionShape.SmolLM2, AttentionShape.Llama1B];

    // Values only have to exist; a store at 2 bits takes the least room.
    private LayerStores Stores => new(Shape, Keys, Codec.Q2, ExactRows.None);

    /// <summary>Appends the rows.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _context = new ComputeContext();
        _layers = new CacheLayers(_context, Stores, Tokens);
        _wave = new DecodeWave(_layers, keep: 0);
    }

    /// <summary>One layer.</summary>
    [Benchmark]
    public void Score() => _wave.Score();

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _wave.Dispose();
        _layers.Dispose();
        _context.Dispose();
    }

    /// <inheritdoc/>
    public Work WorkOf(string benchmark) => Traffic(Stores, Tokens);

    /// <summary>Per KV head, tokens * (bytes of a coded row + 3 * 4 * group).</summary>
    internal static Work Traffic(LayerStores stores, double tokens) =>
        new(stores.Shape.KeyValueHeads * tokens * (stores.RowBytes(stores.Keys) + (12 * stores.Shape.Group)));
}
