namespace KCacheNative.Console.Output;

/// <summary>What `eval --sweep` writes as JSON.</summary>
/// <param name="Model">As it was named.</param>
/// <param name="Text">The text file.</param>
/// <param name="Context">Tokens of a window.</param>
/// <param name="Last">Tokens predicted one by one at the end of each window.</param>
/// <param name="Windows">The windows' numbers.</param>
/// <param name="NllFull">Mean negative log likelihood of full attention over an f16 cache, the reference of all rows.</param>
/// <param name="FullFastBytesPerToken">Fast memory per token of that reference.</param>
/// <param name="Rows">One entry a setting.</param>
internal sealed record SweepReport(
    string Model,
    string Text,
    int Context,
    int Last,
    IReadOnlyList<int> Windows,
    double NllFull,
    double FullFastBytesPerToken,
    IReadOnlyList<SweepRow> Rows);

/// <summary>A setting and what it cost and gained, averaged over the windows.</summary>
/// <param name="Policy">Its name.</param>
/// <param name="KCodec">Codec of keys.</param>
/// <param name="VCodec">Codec of values, or of their sketch.</param>
/// <param name="Mode">"renormalized" or "exact-weights", for kcache.</param>
/// <param name="Keep">N, for the policies that have one.</param>
/// <param name="FastBytesPerToken">The smallest fast home that the setting works with (other rows in the slow home), everything counted, by tokens of context.</param>
/// <param name="BytesReadPerToken">Bytes of cache read per decode step.</param>
/// <param name="KlMean">Mean KL divergence from full attention, in nats.</param>
/// <param name="KlMax">The largest.</param>
/// <param name="Top1Agree">Share of steps with the same preferred token.</param>
/// <param name="Nll">Mean negative log likelihood.</param>
/// <param name="TailMean">Mean attention weight outside the exact rows.</param>
internal sealed record SweepRow(
    string Policy,
    string KCodec,
    string VCodec,
    string? Mode,
    int? Keep,
    double FastBytesPerToken,
    double BytesReadPerToken,
    double KlMean,
    double KlMax,
    double Top1Agree,
    double Nll,
    double TailMean);
