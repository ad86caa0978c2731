using KCacheNative.Console.Output;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Evaluation;

/// <summary>Gathers what a window's decode steps show, step by step.</summary>
internal sealed class WindowComparison
{
    private double _nllFull;
    private double _nll;
    private double _divergence;
    private double _largestDivergence;
    private int _agreeing;

    /// <summary>Steps so far.</summary>
    internal int Steps { get; private set; }

    /// <summary>Adds a step.</summary>
    /// <param name="full">[vocab] logits under full attention.</param>
    /// <param name="fullLogSumExp">Of these.</param>
    /// <param name="policy">[vocab] logits under the policy.</param>
    /// <param name="target">The token that the text goes on with.</param>
    internal void Add(ReadOnlySpan<float> full, double fullLogSumExp, ReadOnlySpan<float> policy, int target)
    {
        double logSumExp = NextTokenDistribution.LogSumExp(policy);
        double divergence = NextTokenDistribution.KullbackLeibler(full, fullLogSumExp, policy, logSumExp);
        _nllFull += NextTokenDistribution.NegativeLogLikelihood(full, fullLogSumExp, target);
        _nll += NextTokenDistribution.NegativeLogLikelihood(policy, logSumExp, target);
        _divergence += divergence;
        _largestDivergence = Math.Max(_largestDivergence, divergence);
        if (NextTokenDistribution.ArgMax(full) == NextTokenDistribution.ArgMax(policy))
            _agreeing++;
        Steps++;
    }

    /// <summary>Adds a step of full attention compared with itself.</summary>
    /// <param name="full">[vocab] logits.</param>
    /// <param name="fullLogSumExp">Of these.</param>
    /// <param name="target">The token that the text goes on with.</param>
    internal void AddReference(ReadOnlySpan<float> full, double fullLogSumExp, int target)
    {
        double nll = NextTokenDistribution.NegativeLogLikelihood(full, fullLogSumExp, target);
        _nllFull += nll;
        _nll += nll;
        _agreeing++;
        Steps++;
    }

    /// <summary>The window as a whole.</summary>
    /// <param name="window">Its number.</param>
    /// <param name="cache">The policy's cache, whose statistics cover this window alone.</param>
    internal WindowReport Summarize(int window, KvCache cache)
    {
        var all = cache.Statistics();
        var layers = Enumerable.Range(0, cache.Shape.Layers).Select(cache.Statistics).Where(layer => layer.HeadSteps > 0);
        return new WindowReport(
            window,
            _nllFull / Steps,
            _nll / Steps,
            _divergence / Steps,
            _largestDivergence,
            (double)_agreeing / Steps,
            all.TailMean,
            all.TailMax,
            [.. layers.Select(layer => layer.TailMean)],
            all.RowsSelectedMean);
    }
}
