using System.Globalization;

namespace KCacheNative.Console.Options;

/// <summary>Sizes in bytes as people write them: 512MiB, 1.5 GiB, 64k, 1000000.</summary>
internal static class ByteSize
{
    private static readonly (string Unit, long Bytes)[] Units =
    [
        ("", 1), ("b", 1),
        ("k", 1L << 10), ("kib", 1L << 10), ("kb", 1_000),
        ("m", 1L << 20), ("mib", 1L << 20), ("mb", 1_000_000),
        ("g", 1L << 30), ("gib", 1L << 30), ("gb", 1_000_000_000),
        ("t", 1L << 40), ("tib", 1L << 40), ("tb", 1_000_000_000_000),
    ];

    /// <summary>What <see cref="TryParse"/> understands, for messages and help.</summary>
    internal const string Examples = "512MiB, 2GiB or 1000000";

    /// <summary>Reads a size; false for anything that is no positive number of bytes below 2^63.</summary>
    internal static bool TryParse(string text, out long bytes)
    {
        bytes = 0;
        string trimmed = text.Trim();
        int split = trimmed.AsSpan().LastIndexOfAnyInRange('0', '9') + 1;
        string unit = trimmed[split..].Trim().ToLowerInvariant();
        if (!decimal.TryParse(trimmed[..split], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal number))
            return false;
        foreach (var (name, scale) in Units)
        {
            if (name != unit)
                continue;
            if (number <= 0 || number > long.MaxValue / scale)
                return false;
            bytes = (long)(number * scale);
            return bytes > 0;
        }

        return false;
    }

    /// <summary>A size for people, in the unit that leaves one to four digits before the point: "3.4 MiB".</summary>
    internal static string Format(double bytes)
    {
        string[] names = ["B", "KiB", "MiB", "GiB", "TiB"];
        int step = 0;
        while (step < names.Length - 1 && Math.Abs(bytes) >= 1024)
        {
            bytes /= 1024;
            step++;
        }

        string digits = step == 0 || Math.Abs(bytes) >= 100 ? "0" : Math.Abs(bytes) >= 10 ? "0.0" : "0.00";
        return $"{bytes.ToString(digits, CultureInfo.InvariantCulture)} {names[step]}";
    }
}
