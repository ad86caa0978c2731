using BenchmarkDotNet.Attributes;
using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>Stem select_topn: the choice of the rows of one layer from the weights of one decode step.</summary>
public class SelectTopnBenchmarks : IWorkload
{
    private ComputeContext _context = null!;
    private CacheLayers _layers = null!;
    private DecodeWave _wave = null!;

    /// <summary>Heads.</summary>
    [ParamsSource(nameof(Shapes))]
    public AttentionShape Shape { get; set; } = AttentionShape.SmolLM2;

    /// <summary>Tokens of the sequence.</summary>
    [Params(2048, 8192, 32768)]
    public int Tokens { get; set; } = 2048;

    /// <summary>Rows to choose.</summary>
    [Params(32, 256)]
    public int Keep { get; set; } = 32;

    /// <summary>How the heads of a group agree.</summary>
    [Params(RowSelection.Group, RowSelection.Union)]
    public RowSelection Select { get; set; } = RowSelection.Group;

    /// <summary>The values of <see cref="Shape"/>.</summary>
    public static IEnumerable<AttentionShape> Shapes => [AttentionShape.SmolLM2, AttentionShape.Llama1B];

    private LayerStores Stores => new(Shape, Codec.F16, Codec.Default, ExactRows.Values);

    /// <summary>Appends the rows and scores them.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _context = new ComputeContext();
        _layers = new CacheLayers(_context, Stores, Tokens, cold: false);
        _wave = new DecodeWave(_layers, Keep);
        _wave.Score();
    }

    /// <summary>One layer.</summary>
    [Benchmark]
    public void Choose() => _wave.Select(Select);

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _wave.Dispose();
        _layers.Dispose();
        _context.Dispose();
    }

    /// <inheritdoc/>
    public Work WorkOf(string benchmark) => Traffic(Shape, Tokens);

    /// <summary>Per KV head, tokens * (4 * group + 8), mostly in cache.</summary>
    internal static Work Traffic(AttentionShape shape, double tokens) => new(shape.KeyValueHeads * tokens * ((4 * shape.Group) + 8));
}
