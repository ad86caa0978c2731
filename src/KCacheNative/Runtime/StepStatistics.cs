using KCacheNative.Interop;

namespace KCacheNative.Runtime;

/// <summary>
/// Sums over the decode steps that a cache has committed since it was created or reset. A head step is one query head of one token in one
/// layer that is not dense. The tail is the softmax weight outside the exact rows: exact where keys are f16 or q8, else an estimate.
/// </summary>
public readonly record struct StepStatistics
{
    internal StepStatistics(in KcStatistics native)
    {
        Steps = (long)native.NSteps;
        HeadSteps = (long)native.NHeadSteps;
        TailSum = native.TailSum;
        TailMax = native.TailMax;
        ErrorMax = native.ErrorMax;
        Selections = (long)native.NSelections;
        RowsSelected = (long)native.RowsSelected;
        RowsRestored = (long)native.RowsRestored;
        RowsHot = (long)native.RowsHot;
        RestoredBytes = (long)native.RestoredBytes;
        ReadBytes = (long)native.ReadBytes;
        BoundMissed = (long)native.BoundMissed;
        NonFinite = (long)native.NNonfinite;
    }

    /// <summary>Decode tokens, counted once, not per layer.</summary>
    public long Steps { get; init; }

    /// <summary>Head steps.</summary>
    public long HeadSteps { get; init; }

    /// <summary>Sum of the tails of all head steps.</summary>
    public double TailSum { get; init; }

    /// <summary>Mean tail of a head step; 0 without head steps.</summary>
    public double TailMean => HeadSteps > 0 ? TailSum / HeadSteps : 0;

    /// <summary>Largest tail.</summary>
    public double TailMax { get; init; }

    /// <summary>Largest root of the sum of squared weights outside the exact rows.</summary>
    public double ErrorMax { get; init; }

    /// <summary>KV heads times tokens times layers that chose rows.</summary>
    public long Selections { get; init; }

    /// <summary>Rows beyond sinks and recent ones, over all selections.</summary>
    public long RowsSelected { get; init; }

    /// <summary>Mean rows of a selection; 0 without selections.</summary>
    public double RowsSelectedMean => Selections > 0 ? (double)RowsSelected / Selections : 0;

    /// <summary>Rows brought back from the slow home.</summary>
    public long RowsRestored { get; init; }

    /// <summary>Rows needed from the slow home and found in fast memory.</summary>
    public long RowsHot { get; init; }

    /// <summary>Bytes moved by restores.</summary>
    public long RestoredBytes { get; init; }

    /// <summary>Bytes of cache that decode steps read, all homes, dense layers included.</summary>
    public long ReadBytes { get; init; }

    /// <summary>Selections that could not keep <see cref="CachePolicy.MaxTail"/> or <see cref="CachePolicy.MaxError"/>.</summary>
    public long BoundMissed { get; init; }

    /// <summary>Scores that were NaN or infinite, and rows that held such a number.</summary>
    public long NonFinite { get; init; }
}
