namespace KCacheNative.Runtime;

/// <summary>How large a cache is and where it may lie.</summary>
public sealed record CacheOptions
{
    /// <summary>The prompt window where none is given.</summary>
    public const int DefaultBatchTokens = 256;

    /// <summary>Most tokens of one sequence; 0: as many as the model was trained for, but at most 8192.</summary>
    public int Context { get; init; }

    /// <summary>Most sequences at once.</summary>
    public int Sequences { get; init; } = 1;

    /// <summary>Most tokens of one forward over all sequences, the prompt window; 0: 256, or the context where that is less.</summary>
    public int BatchTokens { get; init; }

    /// <summary>
    /// Tokens that all sequences together may hold (forks share pages); 0: <see cref="Context"/> times <see cref="Sequences"/>.
    /// </summary>
    public long PoolTokens { get; init; }

    /// <summary>Most bytes of the fast home, everything of the cache counted; 0: no limit, nothing is spilled.</summary>
    public long FastBudgetBytes { get; init; }

    /// <summary>Directory of the slow home's file, not on a tmpfs; null: the system's temporary directory.</summary>
    public string? SpillDirectory { get; init; }

    internal void Check()
    {
        NotNegative(Context, nameof(Context));
        NotNegative(BatchTokens, nameof(BatchTokens));
        NotNegative(PoolTokens, nameof(PoolTokens));
        NotNegative(FastBudgetBytes, nameof(FastBudgetBytes));
        if (Sequences < 1)
            throw new ArgumentOutOfRangeException(nameof(Sequences), Sequences, "it must be at least 1");

        static void NotNegative(long value, string name)
        {
            if (value < 0)
                throw new ArgumentOutOfRangeException(name, value, "it must be above 0, or 0 for the default");
        }
    }
}

/// <summary>What a model asks of a cache.</summary>
/// <param name="Layers">Layers.</param>
/// <param name="QueryHeads">Query heads, a multiple of <paramref name="KeyValueHeads"/>.</param>
/// <param name="KeyValueHeads">KV heads.</param>
/// <param name="HeadDimension">Floats of a head: a multiple of 16, 16 to 256.</param>
/// <param name="TrainedContext">Tokens that the model was trained for; what <see cref="CacheOptions.Context"/> defaults to.</param>
/// <param name="Scale">Of q . k; 0: 1 / sqrt(head dimension).</param>
public sealed record CacheShape(int Layers, int QueryHeads, int KeyValueHeads, int HeadDimension, int TrainedContext, float Scale = 0)
{
    private const int LargestDefaultContext = 8192;

    /// <summary>The context and prompt window that a cache of this shape gets, with the defaults resolved.</summary>
    public CacheOptions Resolve(CacheOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Check();
        int context = options.Context > 0 ? options.Context : Math.Min(TrainedContext, LargestDefaultContext);
        int batch = options.BatchTokens > 0
            ? options.BatchTokens
            : Math.Max(Math.Min(CacheOptions.DefaultBatchTokens, context), options.Sequences);
        return options with { Context = context, BatchTokens = batch };
    }
}
