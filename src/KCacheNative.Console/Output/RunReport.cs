namespace KCacheNative.Console.Output;

/// <summary>What `run --json` prints.</summary>
/// <param name="Backend">What computed: "cpu" or "cuda".</param>
/// <param name="Device">The device's own name.</param>
/// <param name="PromptIds">The prompt's token ids.</param>
/// <param name="Ids">The generated ids; the token that ended the text is among them.</param>
/// <param name="Text">Their text, without special tokens and up to a stop string.</param>
/// <param name="FinishReason">"stop", "length" or "cancelled".</param>
/// <param name="PromptTokensPerSecond">Prompt tokens by the time from the start of the prompt to its last logits.</param>
/// <param name="DecodeTokensPerSecond">Decode steps by the time they took together; 0 if there was none.</param>
/// <param name="PeakRssBytes">Largest resident memory of the process so far, mapped weights included.</param>
/// <param name="CublasBytes">Device memory that cuBLAS was given; absent where it is not used.</param>
/// <param name="Cache">Bytes of the cache.</param>
/// <param name="Steps">What the decode steps did.</param>
internal sealed record RunReport(
    string Backend,
    string Device,
    int[] PromptIds,
    int[] Ids,
    string Text,
    string FinishReason,
    double PromptTokensPerSecond,
    double DecodeTokensPerSecond,
    long PeakRssBytes,
    long? CublasBytes,
    CacheBytes Cache,
    StepCounts Steps);

/// <summary>Bytes of a cache by home.</summary>
/// <param name="FastBytes">In the fast home, everything counted.</param>
/// <param name="SlowBytes">In the slow home, as grown so far.</param>
internal sealed record CacheBytes(long FastBytes, long SlowBytes);

/// <summary>Sums over decode steps.</summary>
/// <param name="Count">Decode steps.</param>
/// <param name="TailMean">Mean over head steps of the attention weight outside the exact rows; an estimate where keys are sketched.</param>
/// <param name="TailMax">The largest such weight.</param>
/// <param name="RowsSelected">Rows chosen beyond sinks and recent ones.</param>
/// <param name="RowsRestored">Rows brought back from the slow home.</param>
/// <param name="RowsHot">Rows needed from the slow home and found in fast memory.</param>
/// <param name="BytesRead">Bytes of cache that the steps read, all homes.</param>
/// <param name="BoundMissed">Selections that could not keep the bound asked for.</param>
internal sealed record StepCounts(
    long Count, double TailMean, double TailMax, long RowsSelected, long RowsRestored, long RowsHot, long BytesRead, long BoundMissed);
