using BenchmarkDotNet.Attributes;
using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Interop;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>Stem attention_full: 512 rows of a prompt of one layer, behind older ones.</summary>
public unsafe class AttentionFullBenchmarks : IWorkload
{
    private const int Rows = 512;

    private ComputeContext _context = null!;
    private CacheLayers _layers = null!;
    private DeviceBuffer _q = null!;
    private DeviceBuffer _out = null!;
    private DeviceBuffer _scratch = null!;
    private DeviceBuffer _sequence = null!;

    /// <summary>Heads.</summary>
    [ParamsSource(nameof(Shapes))]
    public AttentionShape Shape { get; set; } = AttentionShape.SmolLM2;

    /// <summary>Codec of keys and values.</summary>
    [Params(Codec.F16, Codec.Q8, Codec.Q4)]
    public Codec Codec { get; set; } = Codec.F16;

    /// <summary>Tokens before the rows.</summary>
    [Params(0, 1536, 7680)]
    public int Past { get; set; }

    /// <summary>The values of <see cref="Shape"/>.</summary>
    public static IEnumerable<AttentionShape> Shapes => [AttentionShape.SmolLM2, AttentionShape.Llama1B];

    /// <summary>Appends all rows.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _context = new ComputeContext();
        _layers = new CacheLayers(_context, new LayerStores(Shape, Codec, Codec, ExactRows.None), Past + Rows, cold: false);
        long width = (long)Rows * Shape.QueryHeads * Shape.HeadDimension;
        _q = RandomRows.Buffer(_context, width);
        _out = new DeviceBuffer(_context, width * sizeof(float));
        _scratch = new DeviceBuffer(_context, (long)NativeMethods.AttentionFullScratchBytes(_context.Native, _layers.Views, Past + Rows));
        _sequence = new DeviceBuffer(_context, sizeof(KcSequenceView));
        *(KcSequenceView*)_sequence.Pointer = _layers.Rows(Past, Rows) with { SetCentre = 0 };
    }

    /// <summary>One layer.</summary>
    [Benchmark]
    public void Attend() => Ops.AttentionFull(_context, new KcAttentionFullParams
    {
        Size = (uint)sizeof(KcAttentionFullParams),
        NSequences = 1,
        Layer = _layers.Next(),
        Sequences = (KcSequenceView*)_sequence.Pointer,
        NRecent = -1,
        Q = (float*)_q.Pointer,
        Scratch = (void*)_scratch.Pointer,
        Out = (float*)_out.Pointer,
    });

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _sequence.Dispose();
        _scratch.Dispose();
        _out.Dispose();
        _q.Dispose();
        _layers.Dispose();
        _context.Dispose();
    }

    /// <summary>4 * rows * tokens * head_dim operations, where a row sees the tokens up to its own.</summary>
    public Work WorkOf(string benchmark)
    {
        double seen = (Rows * (double)Past) + (Rows * (Rows + 1) / 2.0);
        return new(0, 4 * seen * Shape.QueryHeads * Shape.HeadDimension);
    }
}
