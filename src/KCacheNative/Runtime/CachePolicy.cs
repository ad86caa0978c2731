namespace KCacheNative.Runtime;

/// <summary>What a decode step reads of the cache. Prompts read everything exactly, <see cref="Window"/> excepted.</summary>
public enum PolicyKind
{
    /// <summary>Every key and every value.</summary>
    Full = 0,

    /// <summary>
    /// The first <see cref="CachePolicy.Sinks"/> and the last <see cref="CachePolicy.Recent"/> tokens; all between is forgotten, in prompts
    /// too.
    /// </summary>
    Window = 1,

    /// <summary>
    /// Every key; of the values those of sinks, recent and the <see cref="CachePolicy.Keep"/> best tokens per KV head (arXiv 2404.18057).
    /// </summary>
    KCache = 2,

    /// <summary>A low-bit copy of every key and value, and exact keys and values of the same choice of tokens.</summary>
    Sketch = 3,
}

/// <summary>How a row of K or V is encoded.</summary>
public enum Codec
{
    /// <summary>The policy's own default.</summary>
    Default = 0,

    /// <summary>16-bit floats.</summary>
    F16 = 1,

    /// <summary>8 bits, rotated.</summary>
    Q8 = 2,

    /// <summary>4 bits, rotated, unbiased.</summary>
    Q4 = 3,

    /// <summary>3 bits, rotated, unbiased.</summary>
    Q3 = 4,

    /// <summary>2 bits, rotated, unbiased.</summary>
    Q2 = 5,
}

/// <summary>What the weights of the kept values are divided by under <see cref="PolicyKind.KCache"/>.</summary>
public enum MixMode
{
    /// <summary>By the mass of the kept ones.</summary>
    Renormalized = 0,

    /// <summary>By the mass of all: KCache as its paper writes it.</summary>
    ExactWeights = 1,
}

/// <summary>How the query heads of a KV head agree on one set of rows.</summary>
public enum RowSelection
{
    /// <summary>The best by the summed weights of the group.</summary>
    Group = 0,

    /// <summary>The union of each head's best.</summary>
    Union = 1,
}

/// <summary>
/// How a cache keeps and reads its rows. Start from <see cref="Full"/>, <see cref="Window"/>, <see cref="KCache"/> or <see cref="Sketch"/>
/// and change what differs with <c>with</c>. A combination that is not offered is refused when the cache is created.
/// </summary>
public sealed record CachePolicy
{
    /// <summary>Every key and value, in 16 bits.</summary>
    public static CachePolicy Full { get; } = new() { Kind = PolicyKind.Full, DenseLayers = 0 };

    /// <summary>4 sinks and the 32 last tokens.</summary>
    public static CachePolicy Window { get; } = new() { Kind = PolicyKind.Window, Keep = 0, DenseLayers = 0 };

    /// <summary>Exact keys in 16 bits, the 64 best values per KV head, the first layer dense.</summary>
    public static CachePolicy KCache { get; } = new() { Kind = PolicyKind.KCache };

    /// <summary>Keys at 4 and values at 2 bits in fast memory, the 32 best rows per KV head exactly, no dense layer.</summary>
    public static CachePolicy Sketch { get; } = new()
    {
        Kind = PolicyKind.Sketch,
        Keep = 32,
        DenseLayers = 0,
        KeyCodec = Codec.Q4,
        ValueSketch = Codec.Q2,
    };

    /// <summary>What a decode step reads.</summary>
    public PolicyKind Kind { get; init; } = PolicyKind.KCache;

    /// <summary>Rows per KV head beyond sinks and recent ones that come back exactly; may be 0.</summary>
    public int Keep { get; init; } = 64;

    /// <summary>With <see cref="MaxTail"/> or <see cref="MaxError"/>: the most rows; 0: all.</summary>
    public int KeepMax { get; init; }

    /// <summary>First tokens that are always exact; at most 64.</summary>
    public int Sinks { get; init; } = 4;

    /// <summary>Last tokens that are always exact; at least 1.</summary>
    public int Recent { get; init; } = 32;

    /// <summary>Leading layers that read everything exactly.</summary>
    public int DenseLayers { get; init; } = 1;

    /// <summary>Rows are added past <see cref="Keep"/> until no query head's weight outside them exceeds this; 0: off. Below 1.</summary>
    public float MaxTail { get; init; }

    /// <summary>The same for the root of the sum of squared weights outside; 0: off. Below 1.</summary>
    public float MaxError { get; init; }

    /// <summary>What weights are divided by; <see cref="PolicyKind.KCache"/> only.</summary>
    public MixMode Mode { get; init; }

    /// <summary>How the query heads of a KV head agree on rows.</summary>
    public RowSelection Select { get; init; }

    /// <summary>Of keys.</summary>
    public Codec KeyCodec { get; init; }

    /// <summary>Of values that are read exactly.</summary>
    public Codec ValueCodec { get; init; }

    /// <summary>Of the copy of values in fast memory; <see cref="PolicyKind.Sketch"/> only.</summary>
    public Codec ValueSketch { get; init; }

    /// <summary>The defaults of a kind.</summary>
    public static CachePolicy For(PolicyKind kind) => kind switch
    {
        PolicyKind.Full => Full,
        PolicyKind.Window => Window,
        PolicyKind.KCache => KCache,
        PolicyKind.Sketch => Sketch,
        _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "there are Full, Window, KCache and Sketch"),
    };

    internal void Check()
    {
        AtLeast(Keep, 0, nameof(Keep));
        AtLeast(KeepMax, 0, nameof(KeepMax));
        AtLeast(Sinks, 0, nameof(Sinks));
        AtLeast(Recent, 1, nameof(Recent));
        AtLeast(DenseLayers, 0, nameof(DenseLayers));
        if (Sinks > 64)
            throw new ArgumentOutOfRangeException(nameof(Sinks), Sinks, "at most the 64 tokens of the first page can be sinks");
        Share(MaxTail, nameof(MaxTail));
        Share(MaxError, nameof(MaxError));
        if (KeepMax > 0 && KeepMax < Keep)
            throw new ArgumentOutOfRangeException(nameof(KeepMax), KeepMax, $"it must be 0 (all) or at least Keep = {Keep}");

        static void AtLeast(int value, int least, string name)
        {
            if (value < least)
                throw new ArgumentOutOfRangeException(name, value, $"it must be at least {least}");
        }

        static void Share(float value, string name)
        {
            if (!(value is >= 0 and < 1))
                throw new ArgumentOutOfRangeException(name, value, "it is a share of the weights, from 0 (off) to below 1");
        }
    }
}
