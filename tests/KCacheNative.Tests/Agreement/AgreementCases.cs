using KCacheNative.Runtime;

namespace KCacheNative.Tests.Agreement;

/// <summary>Every policy with every codec that it offers (those of keys and of values go side by side), on a cache of a few pages.</summary>
internal static class AgreementCases
{
    /// <summary>Decode steps of a case.</summary>
    internal const int Steps = 64;

    /// <summary>More than a page, so that there are coded rows before the first step.</summary>
    internal const int PromptTokens = 96;

    internal static readonly CacheOptions Cache = new() { Context = 192, BatchTokens = PromptTokens };

    /// <summary>
    /// How far the farthest logit of half of the steps may lie from the scalar kernels': a row that was coded otherwise moves those behind
    /// it by less, other arithmetic (queries in more bits, say: 0.017) moves all by more.
    /// </summary>
    internal const float MedianTolerance = 0.005f;

    private static readonly CachePolicy Few = new() { Keep = 8, Recent = 8 };

    /// <summary>
    /// Tolerance: how far a logit (they reach 19) may lie from that of the scalar kernels. Sums in another order change the last bits of
    /// floats; where rows are coded, a few elements then fall on the other side of a rounding boundary, by a step of that codec.
    /// </summary>
    internal static readonly (string Name, CachePolicy Policy, float Tolerance)[] All =
    [
        ("full f16", CachePolicy.Full, 0.002f),
        ("full q8", Coded(CachePolicy.Full, Codec.Q8, Codec.Q8), 0.05f),
        ("full q4", Coded(CachePolicy.Full, Codec.Q4, Codec.Q4), 0.05f),
        ("full q3", Coded(CachePolicy.Full, Codec.Q3, Codec.Q3), 0.2f),
        ("full q2", Coded(CachePolicy.Full, Codec.Q2, Codec.Q2), 0.2f),
        ("window f16", CachePolicy.Window with { Recent = 48 }, 0.002f),
        ("window q8 q4", Coded(CachePolicy.Window with { Recent = 80 }, Codec.Q8, Codec.Q4), 0.2f),
        ("kcache f16", Few, 0.002f),
        ("kcache q8", Coded(Few, Codec.Q8, Codec.Q8) with { Select = RowSelection.Union }, 0.05f),
        ("kcache exact weights", Few with { Mode = MixMode.ExactWeights }, 0.002f),
        ("kcache bounded", Few with { Keep = 2, MaxTail = 0.05f }, 0.02f),
        ("sketch q4 q2", Sketch(Codec.Q4, Codec.Q2), 0.05f),
        ("sketch q3 q3", Sketch(Codec.Q3, Codec.Q3), 0.1f),
        ("sketch q2 q4", Sketch(Codec.Q2, Codec.Q4), 0.05f),
        ("sketch q8 q2", Sketch(Codec.Q8, Codec.Q2), 0.05f),
        ("sketch f16 q2", Sketch(Codec.F16, Codec.Q2), 0.05f),
    ];

    private static CachePolicy Coded(CachePolicy policy, Codec keys, Codec values) => policy with { KeyCodec = keys, ValueCodec = values };

    private static CachePolicy Sketch(Codec keys, Codec copy) =>
        CachePolicy.Sketch with { Keep = 8, Recent = 8, KeyCodec = keys, ValueSketch = copy };
}
