using BenchmarkDotNet.Attributes;
using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>
/// The passes of a decode step over coded keys and values, from memory and from the caches. What is not much faster from the caches is bound
/// by operations, not by reading. Bytes are those of the codes and their scales alone.
/// </summary>
public class CodedPassBenchmarks : IWorkload
{
    // A layer of the smaller shape: half of it, with the weights, fits the second-level cache of one of two cores.
    private const int Tokens = 8192;

    private ComputeContext _context = null!;
    private CacheLayers _layers = null!;
    private DecodeWave _wave = null!;

    /// <summary>Codec of keys and values.</summary>
    [Params(Codec.Q4, Codec.Q3, Codec.Q2)]
    public Codec Codec { get; set; } = Codec.Q4;

    /// <summary>Whether one layer is read again and again.</summary>
    [Params(false, true)]
    public bool InCache { get; set; }

    private LayerStores Stores => new(AttentionShape.SmolLM2, Codec, Codec, ExactRows.None);

    /// <summary>Appends the rows and makes weights.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _context = new ComputeContext();
        _layers = new CacheLayers(_context, Stores, Tokens, cold: !InCache);
        _wave = new DecodeWave(_layers, keep: 0);
        _wave.Score();
    }

    /// <summary>The keys of one layer.</summary>
    [Benchmark]
    public void Score() => _wave.Score();

    /// <summary>The values of one layer.</summary>
    [Benchmark]
    public void Mix() => _wave.Mix(MixModes.Renormalized, kept: false);

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _wave.Dispose();
        _layers.Dispose();
        _context.Dispose();
    }

    /// <inheritdoc/>
    public Work WorkOf(string benchmark) => new(Stores.Shape.KeyValueHeads * Tokens * Stores.RowBytes(Codec));
}
