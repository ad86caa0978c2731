using BenchmarkDotNet.Attributes;
using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Interop;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>Stem kv_append: new rows of one layer, as each policy stores them, behind 1024 older ones.</summary>
public unsafe class KvAppendBenchmarks : IWorkload
{
    private const int Past = 1024;

    private ComputeContext _context = null!;
    private CacheLayers _layers = null!;
    private DeviceBuffer _rows = null!;
    private DeviceBuffer _sequence = null!;
    private DeviceBuffer _nonFinite = null!;

    /// <summary>What is stored.</summary>
    public enum Storage
    {
        /// <summary>Keys and values in 16 bits.</summary>
        Full,

        /// <summary>Keys in 16 bits, exact rows of values.</summary>
        KCache,

        /// <summary>Keys and values in 8 bits.</summary>
        FullQ8,

        /// <summary>Keys at 4 and values at 2 bits, exact rows of both.</summary>
        Sketch,
    }

    /// <summary>Heads.</summary>
    [ParamsSource(nameof(Shapes))]
    public AttentionShape Shape { get; set; } = AttentionShape.SmolLM2;

    /// <summary>What is stored.</summary>
    [Params(Storage.Full, Storage.KCache, Storage.FullQ8, Storage.Sketch)]
    public Storage Store { get; set; } = Storage.Full;

    /// <summary>New rows: a decode step, or a part of a prompt.</summary>
    [Params(1, 512)]
    public int Rows { get; set; } = 1;

    /// <summary>The values of <see cref="Shape"/>.</summary>
    public static IEnumerable<AttentionShape> Shapes => [AttentionShape.SmolLM2, AttentionShape.Llama1B];

    private LayerStores Stores => Store switch
    {
        Storage.KCache => new(Shape, Codec.F16, Codec.Default, ExactRows.Values),
        Storage.FullQ8 => new(Shape, Codec.Q8, Codec.Q8, ExactRows.None),
        Storage.Sketch => new(Shape, Codec.Q4, Codec.Q2, ExactRows.KeysAndValues),
        _ => new(Shape, Codec.F16, Codec.F16, ExactRows.None),
    };

    /// <summary>Appends the older rows.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _context = new ComputeContext();
        _layers = new CacheLayers(_context, Stores, Past, Rows);
        _rows = RandomRows.Buffer(_context, 2L * Rows * Shape.KeyValueHeads * Shape.HeadDimension);
        _sequence = new DeviceBuffer(_context, sizeof(KcSequenceView));
        *(KcSequenceView*)_sequence.Pointer = _layers.Rows(Past, Rows);
        _nonFinite = new DeviceBuffer(_context, sizeof(ulong));
    }

    /// <summary>One layer.</summary>
    [Benchmark]
    public void Append() => Ops.KvAppend(_context, new KcKvAppendParams
    {
        Size = (uint)sizeof(KcKvAppendParams),
        NSequences = 1,
        Layer = _layers.Next(),
        Sequences = (KcSequenceView*)_sequence.Pointer,
        K = (float*)_rows.Pointer,
        V = (float*)_rows.Pointer + ((long)Rows * Shape.KeyValueHeads * Shape.HeadDimension),
        NNonfinite = (ulong*)_nonFinite.Pointer,
    });

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _nonFinite.Dispose();
        _sequence.Dispose();
        _rows.Dispose();
        _layers.Dispose();
        _context.Dispose();
    }

    /// <inheritdoc/>
    public Work WorkOf(string benchmark) => Traffic(Stores, Rows);

    /// <summary>n_rows * n_kv_heads * (8 * head_dim + bytes of the coded rows + bytes of the exact row).</summary>
    internal static Work Traffic(LayerStores stores, double rows) => new(rows * stores.Shape.KeyValueHeads
        * ((8 * stores.Shape.HeadDimension) + stores.RowBytes(stores.Keys) + stores.RowBytes(stores.Values) + stores.ExactRowBytes));
}
