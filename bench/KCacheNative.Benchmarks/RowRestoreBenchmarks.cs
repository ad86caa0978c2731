using BenchmarkDotNet.Attributes;
using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Handles;
using KCacheNative.Interop;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>
/// Stem row_restore: finding the exact rows that one layer needs for one decode step. The spill file is smaller than the page cache, so
/// reading from it costs a system call and a copy, not the disk.
/// </summary>
public unsafe class RowRestoreBenchmarks : IWorkload
{
    private const int Tokens = 8192;

    private ComputeContext _context = null!;
    private CacheLayers _layers = null!;
    private DecodeWave _wave = null!;
    private KcHotStore* _hot;
    private nint _spill;
    private int* _lists;
    private int _nLists;
    private int _next;

    /// <summary>Where the rows lie.</summary>
    public enum Home
    {
        /// <summary>In fast memory.</summary>
        Fast,

        /// <summary>In the spill file, and all of them among the hot rows.</summary>
        Hot,

        /// <summary>In the spill file, and none among the hot rows.</summary>
        Spilled,
    }

    /// <summary>Heads.</summary>
    [ParamsSource(nameof(Shapes))]
    public AttentionShape Shape { get; set; } = AttentionShape.SmolLM2;

    /// <summary>What a row is.</summary>
    [Params(ExactRows.Values, ExactRows.KeysAndValues)]
    public ExactRows Row { get; set; } = ExactRows.Values;

    /// <summary>Rows per KV head.</summary>
    [Params(32, 64, 256)]
    public int Keep { get; set; } = 32;

    /// <summary>Where the rows lie.</summary>
    [Params(Home.Fast, Home.Hot, Home.Spilled)]
    public Home From { get; set; } = Home.Fast;

    /// <summary>The values of <see cref="Shape"/>.</summary>
    public static IEnumerable<AttentionShape> Shapes => [AttentionShape.SmolLM2, AttentionShape.Llama1B];

    private LayerStores Stores => new(Shape, Codec.F16, Codec.Default, Row);

    /// <summary>Appends the rows, spills them where asked, and makes lists that share no token.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _context = new ComputeContext();
        _layers = new CacheLayers(_context, Stores, Tokens, cold: false);
        _wave = new DecodeWave(_layers, Keep);
        if (From != Home.Fast)
            Spill();
        _nLists = From == Home.Hot ? 1 : Tokens / Keep;
        _lists = (int*)_wave.Allocate((long)_nLists * Keep * sizeof(int));
        for (int list = 0; list < _nLists; list++)
        {
            for (int i = 0; i < Keep; i++)
                _lists[(list * Keep) + i] = (i * (Tokens / Keep)) + list;
        }

        Restore();
    }

    /// <summary>One layer.</summary>
    [Benchmark]
    public void Restore()
    {
        _next = (_next + 1) % _nLists;
        var list = new ReadOnlySpan<int>(_lists + (_next * Keep), Keep);
        for (int head = 0; head < Shape.KeyValueHeads; head++)
        {
            list.CopyTo(new Span<int>(_wave.Kept + (head * _wave.KeptStride), Keep));
            _wave.Counts[head] = Keep;
        }

        _wave.Restore(_hot);
    }

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        NativeMethods.SpillDestroy(_spill);
        _spill = 0;
        _wave.Dispose();
        _layers.Dispose();
        _context.Dispose();
        _hot = null;
    }

    /// <summary>Rows missed * row_bytes; rows that are hot or in fast memory move nothing.</summary>
    public Work WorkOf(string benchmark) => From == Home.Spilled ? new((double)Shape.KeyValueHeads * Keep * Stores.ExactRowBytes) : default;

    private void Spill()
    {
        nint spill;
        NativeMethods.SpillCreate(_context.Native, null, &spill).ThrowIfFailed();
        _spill = spill;
        ref var sequence = ref _wave.Sequence;
        var exact = _layers.Views->Exact;
        NativeMethods.SpillReserve(spill, (ulong)(sequence.NPages * exact.SlotStrideBytes)).ThrowIfFailed();
        for (int page = 0; page < sequence.NPages; page++)
        {
            long at = page * exact.SlotStrideBytes;
            NativeMethods.SpillWrite(spill, (ulong)at, exact.Base + at, (ulong)exact.SlotStrideBytes).ThrowIfFailed();
            sequence.Pages[page].Exact = ~page;
        }

        _layers.Views->Exact.Spill = spill;
        _layers.Views->Exact.SpillStrideBytes = exact.SlotStrideBytes;

        int slots = 3 * Keep;
        long stateBytes = (long)NativeMethods.HotStateBytes(slots);
        _hot = (KcHotStore*)_wave.Allocate(sizeof(KcHotStore));
        *_hot = new KcHotStore
        {
            NSlots = slots,
            Rows = (byte*)_wave.Allocate((long)Shape.KeyValueHeads * slots * Stores.ExactRowBytes),
            HotStrideBytes = (long)Shape.KeyValueHeads * slots * Stores.ExactRowBytes,
            State = (byte*)_wave.Allocate(Shape.KeyValueHeads * stateBytes),
            StateStrideBytes = Shape.KeyValueHeads * stateBytes,
        };
        NativeMethods.HotDrop(_context.Native, _hot, Shape.KeyValueHeads, 0, 0).ThrowIfFailed();
    }
}
