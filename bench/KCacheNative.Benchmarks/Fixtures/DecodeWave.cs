using KCacheNative.Interop;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks.Fixtures;

/// <summary>The memory and the parameters of one decode step of one sequence through the stems of attention, a layer at a time.</summary>
internal sealed unsafe class DecodeWave : IDisposable
{
    internal const int Sinks = 4;
    internal const int Recent = 32;

    private readonly CacheLayers _layers;
    private readonly List<DeviceBuffer> _buffers = [];
    private readonly int _keep;
    private readonly KcWave* _wave;
    private readonly KcSequenceView* _sequence;
    private readonly void* _scratch;
    private readonly void* _restoreScratch;
    private byte** _rowsOfLayers;

    /// <param name="layers">What is read.</param>
    /// <param name="keep">Rows beyond sinks and recent ones.</param>
    internal DecodeWave(CacheLayers layers, int keep)
    {
        _layers = layers;
        _keep = keep;
        var shape = layers.Stores.Shape;
        var context = layers.Context;
        int stride = layers.Sequence.NPages * CacheLayers.PageTokens;
        KeptStride = Math.Min(stride, Sinks + Recent + (shape.Group * keep));
        var q = RandomRows.Buffer(context, (long)shape.QueryHeads * shape.HeadDimension, seed: 77);
        _buffers.Add(q);
        _sequence = (KcSequenceView*)Allocate(sizeof(KcSequenceView));
        *_sequence = layers.Sequence;
        var query = (KcQueryView*)Allocate(sizeof(KcQueryView));
        *query = new KcQueryView { NVisible = layers.Tokens };
        _wave = (KcWave*)Allocate(sizeof(KcWave));
        *_wave = new KcWave
        {
            Layer = layers.Views,
            Sequences = _sequence,
            Queries = query,
            NQueries = 1,
            NSink = Sinks,
            NRecent = Recent,
            KvHeadEnd = shape.KeyValueHeads,
            Q = (float*)q.Pointer,
            TokenStride = stride,
        };
        Weights = (float*)Allocate((long)shape.QueryHeads * stride * sizeof(float));
        Reference = (float*)Allocate(shape.QueryHeads * sizeof(float));
        Mass = (float*)Allocate(shape.QueryHeads * sizeof(float));
        NonFinite = (int*)Allocate(shape.QueryHeads * sizeof(int));
        Tail = (float*)Allocate(shape.QueryHeads * sizeof(float));
        Error = (float*)Allocate(shape.QueryHeads * sizeof(float));
        Kept = (int*)Allocate((long)shape.KeyValueHeads * KeptStride * sizeof(int));
        Rows = (byte**)Allocate((long)shape.KeyValueHeads * KeptStride * sizeof(byte*));
        Counts = (int*)Allocate(5L * shape.KeyValueHeads * sizeof(int));
        Out = (float*)Allocate((long)shape.QueryHeads * shape.HeadDimension * sizeof(float));
        nint native = context.Native;
        ulong scratch = Math.Max(
            NativeMethods.AttentionScoreScratchBytes(native, layers.Views, 1, stride),
            Math.Max(
                NativeMethods.SelectTopnScratchBytes(native, layers.Views, 1, stride),
                NativeMethods.AttentionMixScratchBytes(native, layers.Views, 1, stride)));
        _scratch = Allocate((long)scratch);
        _restoreScratch = Allocate((long)NativeMethods.RowRestoreScratchBytes(native, layers.Views, 1, KeptStride));
    }

    /// <summary>Room of a KV head's kept tokens.</summary>
    internal int KeptStride { get; }

    /// <summary>The page table that kernels see; rows may be moved to a spill file in it.</summary>
    internal ref KcSequenceView Sequence => ref *_sequence;

    /// <summary>[query heads, token stride].</summary>
    internal float* Weights { get; }

    /// <summary>[query heads].</summary>
    internal float* Reference { get; }

    /// <summary>[query heads].</summary>
    internal float* Mass { get; }

    /// <summary>[KV heads, kept stride]: tokens, ascending.</summary>
    internal int* Kept { get; }

    /// <summary>[KV heads]: how many of them; behind them those that were selected, missed a bound, were restored, were hot.</summary>
    internal int* Counts { get; }

    private int* NonFinite { get; }

    private float* Tail { get; }

    private float* Error { get; }

    private byte** Rows { get; }

    private float* Out { get; }

    private long RowsOfLayer => (long)KeyValueHeads * KeptStride;

    private int KeyValueHeads => _layers.Stores.Shape.KeyValueHeads;

    /// <summary>Scores every key of the layer whose turn it is.</summary>
    internal void Score()
    {
        _wave->Layer = _layers.Next();
        Ops.AttentionScore(_layers.Context, new KcAttentionScoreParams
        {
            Size = (uint)sizeof(KcAttentionScoreParams),
            Wave = _wave,
            Scratch = _scratch,
            Weights = Weights,
            Reference = Reference,
            Mass = Mass,
            NNonfinite = NonFinite,
        });
    }

    /// <summary>Chooses the kept tokens by the last scores.</summary>
    internal void Select(RowSelection selection = RowSelection.Group, float maxTail = 0)
    {
        Ops.SelectTopn(_layers.Context, new KcSelectTopnParams
        {
            Size = (uint)sizeof(KcSelectTopnParams),
            Select = (int)selection,
            Wave = _wave,
            Weights = Weights,
            Mass = Mass,
            NKeep = _keep,
            NKeepMax = maxTail > 0 ? Math.Max(_keep, KeptStride - Sinks - Recent) : _keep,
            MaxTail = maxTail,
            KeptStride = KeptStride,
            Scratch = _scratch,
            Kept = Kept,
            NKept = Counts,
            NSelected = Counts + KeyValueHeads,
            Tail = maxTail > 0 ? Tail : null,
            Error = maxTail > 0 ? Error : null,
            Missed = Counts + (2 * KeyValueHeads),
        });
    }

    /// <summary>Finds the rows of the kept tokens in the layer whose turn it is.</summary>
    /// <param name="hot">Where spilled rows come back to; null where nothing is spilled.</param>
    internal void Restore(KcHotStore* hot = null) => Restore(_layers.Next(), Rows, hot);

    /// <summary>Finds the rows of the kept tokens in every layer, for <see cref="Mix"/>.</summary>
    internal void RestoreAllLayers()
    {
        _rowsOfLayers = (byte**)Allocate((long)_layers.Count * RowsOfLayer * sizeof(byte*));
        for (int layer = 0; layer < _layers.Count; layer++)
            Restore(_layers.Views + layer, _rowsOfLayers + (layer * RowsOfLayer), null);
    }

    private void Restore(KcLayerView* layer, byte** rows, KcHotStore* hot)
    {
        _wave->Layer = layer;
        Ops.RowRestore(_layers.Context, new KcRowRestoreParams
        {
            Size = (uint)sizeof(KcRowRestoreParams),
            Wave = _wave,
            Hot = hot,
            Kept = Kept,
            NKept = Counts,
            KeptStride = KeptStride,
            Scratch = _restoreScratch,
            Rows = rows,
            NRestored = Counts + (3 * KeyValueHeads),
            NHot = Counts + (4 * KeyValueHeads),
        });
    }

    /// <summary>Sums values of the layer whose turn it is.</summary>
    /// <param name="mode">KC_MIX_*.</param>
    /// <param name="kept">Whether the kept rows are read, after <see cref="RestoreAllLayers"/>.</param>
    internal void Mix(int mode, bool kept)
    {
        _wave->Layer = _layers.Next();
        Ops.AttentionMix(_layers.Context, new KcAttentionMixParams
        {
            Size = (uint)sizeof(KcAttentionMixParams),
            Mode = mode,
            Wave = _wave,
            Weights = Weights,
            Reference = Reference,
            Mass = Mass,
            Kept = kept ? Kept : null,
            NKept = kept ? Counts : null,
            Rows = kept ? _rowsOfLayers + ((_wave->Layer - _layers.Views) * RowsOfLayer) : null,
            KeptStride = kept ? KeptStride : 0,
            Scratch = _scratch,
            Out = Out,
            Tail = kept ? Tail : null,
            Error = kept ? Error : null,
        });
    }

    /// <summary>Memory for a benchmark of its own, freed with this.</summary>
    internal void* Allocate(long bytes)
    {
        var buffer = new DeviceBuffer(_layers.Context, Math.Max(bytes, 64));
        _buffers.Add(buffer);
        return (void*)buffer.Pointer;
    }

    public void Dispose()
    {
        foreach (var buffer in _buffers)
            buffer.Dispose();
    }
}

/// <summary>KC_MIX_* of kcache_ops.h.</summary>
internal static class MixModes
{
    internal const int Renormalized = 0;
    internal const int Sketched = 2;
}
