using KCacheNative.Interop;

namespace KCacheNative.Runtime;

/// <summary>Bytes of a cache.</summary>
/// <param name="FastBytes">All of the fast home: the sum of the five parts below.</param>
/// <param name="SlowBytes">Of the slow home: the largest size where planned; where in use, a file's size so far, and all of pinned memory.</param>
/// <param name="FastMinimumBytes">The smallest <see cref="CacheOptions.FastBudgetBytes"/> that would be accepted.</param>
/// <param name="KeysBytes">Keys in fast memory.</param>
/// <param name="ValuesBytes">Values or their sketch in fast memory.</param>
/// <param name="ExactBytes">Exact rows in fast memory: recent pages, prompt window, what the budget allows beyond.</param>
/// <param name="HotBytes">Recently restored rows.</param>
/// <param name="ScratchBytes">Scores, row lists, staging, page tables.</param>
/// <param name="FastExactPages">Pages of exact rows that have room in the fast home.</param>
public sealed record CacheMemory(
    long FastBytes,
    long SlowBytes,
    long FastMinimumBytes,
    long KeysBytes,
    long ValuesBytes,
    long ExactBytes,
    long HotBytes,
    long ScratchBytes,
    int FastExactPages)
{
    internal CacheMemory(in KcMemory memory)
        : this(
            checked((long)memory.FastBytes),
            checked((long)memory.SlowBytes),
            checked((long)memory.FastMinimumBytes),
            checked((long)memory.KeysBytes),
            checked((long)memory.ValuesBytes),
            checked((long)memory.ExactBytes),
            checked((long)memory.HotBytes),
            checked((long)memory.ScratchBytes),
            checked((int)memory.NFastExactPages))
    {
    }
}
