using KCacheNative.Interop;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks.Fixtures;

/// <summary>Which rows a layer keeps exactly, beside its stores.</summary>
public enum ExactRows
{
    /// <summary>None.</summary>
    None,

    /// <summary>Values.</summary>
    Values,

    /// <summary>Keys and values, side by side.</summary>
    KeysAndValues,
}

/// <summary>What a layer keeps of its rows.</summary>
/// <param name="Shape">Heads.</param>
/// <param name="Keys">Codec of the keys.</param>
/// <param name="Values">Codec of the values' store; <see cref="Codec.Default"/>: there is none.</param>
/// <param name="Exact">Exact rows.</param>
public sealed record LayerStores(AttentionShape Shape, Codec Keys, Codec Values, ExactRows Exact)
{
    /// <summary>Bytes of one row of one KV head in a codec.</summary>
    public double RowBytes(Codec codec) => codec == Codec.Default ? 0 : (double)BlockBytes(codec) / NativeMethods.PageTokens;

    /// <summary>Bytes of one exact row of one KV head.</summary>
    public int ExactRowBytes => Exact switch { ExactRows.Values => 2, ExactRows.KeysAndValues => 4, _ => 0 } * Shape.HeadDimension;

    internal long BlockBytes(Codec codec) =>
        NativeMethods.BlockBytes((int)codec, Shape.HeadDimension) is var bytes and > 0
            ? (long)bytes
            : throw new NotSupportedException($"the library does not offer {codec} for heads of {Shape.HeadDimension}");
}

/// <summary>
/// Layers of a cache that hold one sequence of random rows, so many that together they are larger than the processor's caches: going through
/// them in turn reads each from memory, as a decode step of a whole model does. All hold the same rows.
/// </summary>
internal sealed unsafe class CacheLayers : IDisposable
{
    internal const int PageTokens = NativeMethods.PageTokens;

    private const long ColdBytes = 256L << 20;
    private const int RowsOfAppend = 512;

    private readonly DeviceBuffer _memory;
    private readonly DeviceBuffer _views;
    private readonly DeviceBuffer _pages;
    private readonly long _layerBytes;
    private int _next;

    /// <param name="context">What computes.</param>
    /// <param name="stores">What a layer keeps.</param>
    /// <param name="tokens">Tokens of the sequence.</param>
    /// <param name="room">Tokens that could be appended.</param>
    /// <param name="cold">Whether there are many layers; else one, for what is not bound by memory.</param>
    internal CacheLayers(ComputeContext context, LayerStores stores, int tokens, int room = 0, bool cold = true)
    {
        Stores = stores;
        Context = context;
        Tokens = tokens;
        var shape = stores.Shape;
        int nPages = (tokens + room + PageTokens - 1) / PageTokens;
        long at = 0;
        long Place(long bytes)
        {
            long start = at;
            at += (bytes + 63) / 64 * 64;
            return start;
        }

        var keys = new StorePlan(stores, stores.Keys, nPages, Place);
        var values = new StorePlan(stores, stores.Values, nPages, Place);
        long slotBytes = (long)shape.KeyValueHeads * PageTokens * stores.ExactRowBytes;
        long exact = Place(slotBytes * nPages);
        _layerBytes = at;
        Count = cold ? (int)Math.Clamp(ColdBytes / _layerBytes, 1, 8192) : 1;
        _memory = new DeviceBuffer(context, _layerBytes * Count);
        _views = new DeviceBuffer(context, (long)Count * sizeof(KcLayerView));
        for (int layer = 0; layer < Count; layer++)
        {
            byte* memory = (byte*)_memory.Pointer + (layer * _layerBytes);
            Views[layer] = new KcLayerView
            {
                NQHeads = shape.QueryHeads,
                NKvHeads = shape.KeyValueHeads,
                HeadDim = shape.HeadDimension,
                Scale = 1 / MathF.Sqrt(shape.HeadDimension),
                K = keys.At(memory),
                V = values.At(memory),
                Exact = stores.Exact == ExactRows.None ? default : new KcExactStore
                {
                    HasK = stores.Exact == ExactRows.KeysAndValues ? 1 : 0,
                    VCodec = (int)Codec.F16,
                    RowBytes = stores.ExactRowBytes,
                    Base = memory + exact,
                    SlotStrideBytes = slotBytes,
                },
            };
        }

        _pages = new DeviceBuffer(context, (long)nPages * sizeof(KcPageView));
        Sequence = MakeSequence(nPages, keys.IsCoded || values.IsCoded);
        Append();
        for (int layer = 1; layer < Count; layer++)
            Buffer.MemoryCopy((void*)_memory.Pointer, (byte*)_memory.Pointer + (layer * _layerBytes), _layerBytes, _layerBytes);
    }

    internal LayerStores Stores { get; }

    internal ComputeContext Context { get; }

    internal int Tokens { get; }

    /// <summary>Layers.</summary>
    internal int Count { get; }

    /// <summary>[<see cref="Count"/>].</summary>
    internal KcLayerView* Views => (KcLayerView*)_views.Pointer;

    /// <summary>The sequence as it is behind its last token.</summary>
    internal KcSequenceView Sequence { get; }

    /// <summary>The layer whose turn it is.</summary>
    internal KcLayerView* Next()
    {
        _next = (_next + 1) % Count;
        return Views + _next;
    }

    /// <summary>The sequence with its last tokens as rows of a forward.</summary>
    /// <param name="past">Tokens before the rows.</param>
    /// <param name="rows">Rows, which have room.</param>
    internal KcSequenceView Rows(int past, int rows) => Sequence with
    {
        NPast = past,
        NRows = rows,
        NPages = (past + rows + PageTokens - 1) / PageTokens,
        SetCentre = Sequence.FirstPage >= 0 && past < PageTokens && past + rows >= PageTokens ? 1 : 0,
    };

    public void Dispose()
    {
        _memory.Dispose();
        _views.Dispose();
        _pages.Dispose();
    }

    private KcSequenceView MakeSequence(int nPages, bool usesFirstPage)
    {
        var pages = (KcPageView*)_pages.Pointer;
        for (int page = 0; page < nPages; page++)
            pages[page] = new KcPageView { Position = page * PageTokens, Page = page, Exact = page };
        return new KcSequenceView
        {
            NPast = Tokens,
            NPages = (Tokens + PageTokens - 1) / PageTokens,
            Pages = pages,
            FirstPage = usesFirstPage ? 0 : -1,
        };
    }

    // The rows of the first layer.
    private void Append()
    {
        long width = (long)Stores.Shape.KeyValueHeads * Stores.Shape.HeadDimension;
        using var rows = new DeviceBuffer(Context, 2 * RowsOfAppend * width * sizeof(float));
        ulong nonFinite = 0;
        for (int past = 0; past < Tokens; past += RowsOfAppend)
        {
            RandomRows.Fill(rows.Span<float>(0, (int)(2 * RowsOfAppend * width)), past);
            var sequence = Rows(past, Math.Min(RowsOfAppend, Tokens - past));
            var parameters = new KcKvAppendParams
            {
                Size = (uint)sizeof(KcKvAppendParams),
                NSequences = 1,
                Layer = Views,
                Sequences = &sequence,
                K = (float*)rows.Pointer,
                V = (float*)rows.Pointer + (RowsOfAppend * width),
                NNonfinite = &nonFinite,
            };
            Ops.KvAppend(Context, parameters);
        }
    }

    /// <summary>Where a store lies in the memory of a layer.</summary>
    private readonly struct StorePlan
    {
        private readonly Codec _codec;
        private readonly long _pageBytes;
        private readonly long _firstBytes;
        private readonly int _centreFloats;
        private readonly long _base;
        private readonly long _first;
        private readonly long _centre;

        internal StorePlan(LayerStores stores, Codec codec, int nPages, Func<long, long> place)
        {
            _codec = codec;
            if (codec == Codec.Default)
                return;
            _pageBytes = stores.Shape.KeyValueHeads * stores.BlockBytes(codec);
            _base = place(_pageBytes * nPages);
            if (codec == Codec.F16)
                return;
            _firstBytes = stores.Shape.KeyValueHeads * stores.BlockBytes(Codec.F16);
            _centreFloats = stores.Shape.KeyValueHeads * stores.Shape.HeadDimension;
            _first = place(_firstBytes);
            _centre = place(_centreFloats * sizeof(float));
        }

        internal bool IsCoded => _codec is not (Codec.Default or Codec.F16);

        internal KcStore At(byte* memory) => _codec == Codec.Default ? default : new KcStore
        {
            Codec = (int)_codec,
            Base = memory + _base,
            PageStrideBytes = _pageBytes,
            First = IsCoded ? memory + _first : null,
            FirstStrideBytes = _firstBytes,
            Centre = IsCoded ? (float*)(memory + _centre) : null,
            CentreStride = _centreFloats,
        };
    }
}
