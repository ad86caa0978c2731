using System.Globalization;

namespace KCacheNative.Benchmarks.Decode;

/// <summary>What a person sees of the figures.</summary>
internal static class DecodeTable
{
    private const int Million = 1_000_000;

    internal static string Header { get; } = Row(
        "depth", "ms median", "ms best", "tok/s", "weights MB", "cache MB", "GB/s", "% read", "selected", "hot", "restored", "hit rate", "fast MB", "other CPU");

    internal static string Legend { get; } =
        "MB: 10^6 bytes that a step reads; GB/s: these by the median step; % read: of the bandwidth above; selected, hot, restored: rows of a step, all\n" +
        "layers and KV heads together; fast MB: the cache in fast memory. Above 5 % of other CPU use the times are not worth keeping.";

    internal static string Line(DecodeFigures figures, int sequences, double readBound)
    {
        var statistics = figures.Statistics;
        double steps = figures.StepSeconds.Length;
        return Row(
            Number(figures.Depth, "0") + (sequences > 1 ? Number(sequences, " x 0") : ""),
            Number(figures.MedianStep * 1e3, "0.00"),
            Number(figures.BestStep * 1e3, "0.00"),
            Number(figures.TokensPerSecond[figures.TokensPerSecond.Length / 2], "0.0"),
            Number((double)figures.WeightBytes / Million, "0.0"),
            Number(figures.CacheBytes / Million, "0.0"),
            Number(figures.BytesPerSecond / 1e9, "0.0"),
            Number(100 * figures.BytesPerSecond / readBound, "0"),
            Number(statistics.RowsSelected / steps, "0"),
            Number(statistics.RowsHot / steps, "0"),
            Number(statistics.RowsRestored / steps, "0"),
            figures.HitRate is { } rate ? Number(rate, "0 %") : "-",
            Number((double)figures.Memory.FastBytes / Million, "0.0"),
            figures.OthersShare is { } share ? Number(share, "0 %") : "-");
    }

    private static string Number(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);

    private static string Row(params string[] cells) => string.Concat(cells.Select((cell, column) => cell.PadLeft(column == 0 ? 10 : 11)));
}
