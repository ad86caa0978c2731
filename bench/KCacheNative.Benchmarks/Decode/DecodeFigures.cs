using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks.Decode;

/// <summary>What a measurement found.</summary>
/// <param name="Depth">Tokens before the first step.</param>
/// <param name="MeanDepth">Tokens that the mean step saw.</param>
/// <param name="FillSeconds">Seconds that reaching the depth took.</param>
/// <param name="StepSeconds">Of every step, ascending.</param>
/// <param name="TokensPerSecond">Of every repetition by wall time, ascending.</param>
/// <param name="TokensPerCpuSecond">Of every repetition by the time that all threads computed, times threads, ascending.</param>
/// <param name="Statistics">Over all steps.</param>
/// <param name="Memory">Of the cache.</param>
/// <param name="WeightBytes">Bytes of weights that a step reads.</param>
/// <param name="OthersShare">The share of the machine that other processes used meanwhile.</param>
internal sealed record DecodeFigures(
    int Depth,
    double MeanDepth,
    double FillSeconds,
    double[] StepSeconds,
    double[] TokensPerSecond,
    double[] TokensPerCpuSecond,
    StepStatistics Statistics,
    CacheMemory Memory,
    long WeightBytes,
    double? OthersShare)
{
    /// <summary>Seconds of the median step.</summary>
    internal double MedianStep => StepSeconds[StepSeconds.Length / 2];

    /// <summary>Seconds of the fastest step.</summary>
    internal double BestStep => StepSeconds[0];

    /// <summary>Bytes of the cache that a step reads, all sequences together.</summary>
    internal double CacheBytes => (double)Statistics.ReadBytes / StepSeconds.Length;

    /// <summary>Bytes of weights and cache by the median step.</summary>
    internal double BytesPerSecond => (WeightBytes + CacheBytes) / MedianStep;

    /// <summary>The share of rows needed from the slow home that were found in fast memory; null where none was needed.</summary>
    internal double? HitRate => Statistics.RowsHot + Statistics.RowsRestored is var needed and > 0 ? (double)Statistics.RowsHot / needed : null;
}
