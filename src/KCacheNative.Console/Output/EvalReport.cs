namespace KCacheNative.Console.Output;

/// <summary>What `eval --json` prints.</summary>
/// <param name="Windows">One entry a window, in the order asked for.</param>
internal sealed record EvalReport(IReadOnlyList<WindowReport> Windows);

/// <summary>A window of text whose last tokens were predicted one by one, under full attention and under the policy.</summary>
/// <param name="Window">Its number: window w of N tokens is tokens w N to (w + 1) N of the text.</param>
/// <param name="NllFull">Mean negative log likelihood in nats under full attention over an f16 cache.</param>
/// <param name="Nll">The same under the policy.</param>
/// <param name="KlMean">Mean KL divergence of the policy's next-token distribution from full attention's, in nats.</param>
/// <param name="KlMax">The largest.</param>
/// <param name="Top1Agree">Share of steps in which both prefer the same token.</param>
/// <param name="TailMean">Mean attention weight outside the exact rows, over head steps (layers that are not dense).</param>
/// <param name="TailMax">The largest.</param>
/// <param name="TailMeanByLayer">The mean of each layer that is not dense.</param>
/// <param name="RowsSelectedMean">Rows chosen per KV head and step, beyond sinks and recent ones.</param>
internal sealed record WindowReport(
    int Window,
    double NllFull,
    double Nll,
    double KlMean,
    double KlMax,
    double Top1Agree,
    double TailMean,
    double TailMax,
    IReadOnlyList<double> TailMeanByLayer,
    double RowsSelectedMean);
