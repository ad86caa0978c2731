using System.Runtime.InteropServices;
using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

/// <summary>
/// Keys and values of many sequences. One forward is <see cref="Begin"/>; for each layer <see cref="Append"/> and <see cref="Attend"/>;
/// <see cref="Commit"/>, or <see cref="Rollback"/> at any moment. All memory is taken at creation.
/// </summary>
public sealed unsafe class KvCache : IDisposable
{
    private readonly CacheHandle _handle;
    private readonly ComputeContext _context;

    /// <summary>Creates a cache.</summary>
    /// <param name="context">Where.</param>
    /// <param name="shape">What the model asks of it.</param>
    /// <param name="policy">How it keeps and reads its rows.</param>
    /// <param name="options">How large it is; null for the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="KCacheException">The combination is not offered, the budget is too small (the message names the smallest), memory
    /// or disk is lacking, or the spill directory cannot be used.</exception>
    public KvCache(ComputeContext context, CacheShape shape, CachePolicy policy, CacheOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(shape);
        context.ThrowIfDisposed();
        Shape = shape;
        Policy = policy;
        Options = shape.Resolve(options ?? new CacheOptions());
        _context = context;
        var desc = Describe(shape, policy, Options);
        try
        {
            _handle = new CacheHandle(context.Handle, &desc);
        }
        finally
        {
            Marshal.FreeCoTaskMem((nint)desc.SpillDir);
        }
    }

    /// <summary>What the model asks of it.</summary>
    public CacheShape Shape { get; }

    /// <summary>How it keeps and reads its rows.</summary>
    public CachePolicy Policy { get; }

    /// <summary>How large it is, with the defaults resolved.</summary>
    public CacheOptions Options { get; }

    /// <summary>The context it was made from.</summary>
    public ComputeContext Context => _context;

    /// <summary>The memory that it holds now.</summary>
    public CacheMemory Memory
    {
        get
        {
            var memory = new KcMemory { Size = (uint)sizeof(KcMemory) };
            NativeMethods.CacheUsage(Native, &memory).ThrowIfFailed();
            GC.KeepAlive(this);
            return new CacheMemory(memory);
        }
    }

    private nint Native
    {
        get
        {
            ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
            return _handle.DangerousGetHandle();
        }
    }

    /// <summary>What a cache would take, before anything is allocated.</summary>
    /// <param name="context">Where.</param>
    /// <param name="shape">What the model asks of it.</param>
    /// <param name="policy">How it keeps and reads its rows.</param>
    /// <param name="options">How large it is; null for the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="KCacheException">The combination is not offered, or the budget is too small.</exception>
    public static CacheMemory Plan(ComputeContext context, CacheShape shape, CachePolicy policy, CacheOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(shape);
        var desc = Describe(shape, policy, shape.Resolve(options ?? new CacheOptions()));
        try
        {
            var memory = new KcMemory { Size = (uint)sizeof(KcMemory) };
            NativeMethods.CacheMemory(context.Native, &desc, &memory).ThrowIfFailed();
            GC.KeepAlive(context);
            return new CacheMemory(memory);
        }
        finally
        {
            Marshal.FreeCoTaskMem((nint)desc.SpillDir);
        }
    }

    /// <summary>Opens an empty sequence and returns its number.</summary>
    /// <exception cref="KCacheException">All sequences are in use.</exception>
    public int CreateSequence()
    {
        int sequence;
        NativeMethods.SequenceCreate(Native, &sequence).ThrowIfFailed();
        GC.KeepAlive(this);
        return sequence;
    }

    /// <summary>Opens a sequence that continues another as it is now, and returns its number. Full pages are shared.</summary>
    /// <exception cref="KCacheException">All sequences are in use, or the source is not.</exception>
    public int ForkSequence(int source)
    {
        int sequence;
        NativeMethods.SequenceFork(Native, source, &sequence).ThrowIfFailed();
        GC.KeepAlive(this);
        return sequence;
    }

    /// <summary>Forgets all tokens from <paramref name="tokens"/> on.</summary>
    /// <exception cref="KCacheException">Under <see cref="PolicyKind.Window"/>: what should stay was forgotten already.</exception>
    public void Truncate(int sequence, int tokens)
    {
        NativeMethods.SequenceTruncate(Native, sequence, tokens).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>Closes a sequence; its number may be given out again.</summary>
    public void FreeSequence(int sequence)
    {
        NativeMethods.SequenceFree(Native, sequence).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>Tokens of a sequence.</summary>
    public int Length(int sequence)
    {
        int tokens;
        NativeMethods.SequenceLength(Native, sequence, &tokens).ThrowIfFailed();
        GC.KeepAlive(this);
        return tokens;
    }

    /// <summary>Starts a forward: reserves its pages. After an error none is under way.</summary>
    /// <param name="entries">The new tokens; rows of q, k, v are those of the entries, one behind the other.</param>
    /// <exception cref="KCacheException">Context, pool or batch are too small (both numbers are named), or the disk is full.</exception>
    public void Begin(ReadOnlySpan<BatchEntry> entries)
    {
        fixed (BatchEntry* first = entries)
            NativeMethods.CacheBegin(Native, first, entries.Length).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>Encodes and stores the new rows of a layer. Layers in order, each once.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="k">[rows, KV heads, head dimension], behind rope.</param>
    /// <param name="v">[rows, KV heads, head dimension].</param>
    public void Append(int layer, Tensor k, Tensor v)
    {
        CheckColumns(k, Shape.KeyValueHeads, nameof(k));
        CheckColumns(v, Shape.KeyValueHeads, nameof(v));
        NativeMethods.CacheAppend(Native, layer, k.Data, v.Data).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>Attention of a layer, after its <see cref="Append"/>.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="q">[rows, query heads, head dimension], behind rope.</param>
    /// <param name="output">[rows, query heads, head dimension].</param>
    public void Attend(int layer, Tensor q, Tensor output)
    {
        CheckColumns(q, Shape.QueryHeads, nameof(q));
        CheckColumns(output, Shape.QueryHeads, nameof(output));
        NativeMethods.CacheAttend(Native, layer, q.Data, output.Data).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>
    /// Right behind <see cref="Begin"/> of a decode step: true where all calls up to <see cref="EndReplay"/> have been enqueued from the
    /// record of an earlier step, so that they are not made. Else they are made, and a backend with graphs may record them.
    /// </summary>
    /// <param name="key">The caller's name for its own calls: under one key they are the same, with the same addresses.</param>
    public bool BeginReplay(ulong key)
    {
        int replayed;
        NativeMethods.CacheReplayBegin(Native, key, &replayed).ThrowIfFailed();
        GC.KeepAlive(this);
        return replayed != 0;
    }

    /// <summary>Before what the calls computed is read; does nothing where nothing is recorded.</summary>
    public void EndReplay()
    {
        NativeMethods.CacheReplayEnd(Native).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>The new lengths hold.</summary>
    public void Commit()
    {
        NativeMethods.CacheCommit(Native).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>The old lengths hold; does nothing when no forward is under way.</summary>
    public void Rollback()
    {
        NativeMethods.CacheRollback(Native).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>Sums over the decode steps so far.</summary>
    /// <param name="layer">A layer; -1: all together.</param>
    public StepStatistics Statistics(int layer = -1)
    {
        var statistics = new KcStatistics { Size = (uint)sizeof(KcStatistics) };
        NativeMethods.CacheStatistics(Native, layer, &statistics).ThrowIfFailed();
        GC.KeepAlive(this);
        return new StepStatistics(statistics);
    }

    /// <summary>Starts the sums anew.</summary>
    public void ResetStatistics()
    {
        NativeMethods.CacheStatisticsReset(Native).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>Frees all memory and the spill file.</summary>
    public void Dispose() => _handle.Dispose();

    private static KcCacheDesc Describe(CacheShape shape, CachePolicy policy, CacheOptions options)
    {
        ArgumentNullException.ThrowIfNull(policy);
        policy.Check();
        return new KcCacheDesc
        {
            Size = (uint)sizeof(KcCacheDesc),
            NLayers = shape.Layers,
            NQHeads = shape.QueryHeads,
            NKvHeads = shape.KeyValueHeads,
            HeadDim = shape.HeadDimension,
            NContext = options.Context,
            NSequences = options.Sequences,
            NBatchTokens = options.BatchTokens,
            NPoolTokens = options.PoolTokens,
            Scale = shape.Scale,
            Policy = (int)policy.Kind,
            Mode = (int)policy.Mode,
            Select = (int)policy.Select,
            KCodec = (int)policy.KeyCodec,
            VCodec = (int)policy.ValueCodec,
            VSketch = (int)policy.ValueSketch,
            NKeep = policy.Keep,
            NKeepMax = policy.KeepMax,
            NSink = policy.Sinks,
            NRecent = policy.Recent,
            NDenseLayers = Math.Min(policy.DenseLayers, shape.Layers),
            MaxTail = policy.MaxTail,
            MaxError = policy.MaxError,
            FastBudgetBytes = (ulong)options.FastBudgetBytes,
            SpillDir = (byte*)Marshal.StringToCoTaskMemUTF8(options.SpillDirectory),
        };
    }

    private void CheckColumns(Tensor tensor, int heads, string name)
    {
        if (tensor.IsEmpty || tensor.Columns != heads * Shape.HeadDimension)
            throw new ArgumentException(
                $"{name} has {tensor.Columns} floats a row; {heads} heads of {Shape.HeadDimension} are needed", name);
    }
}
