using KCacheNative.Engine;

namespace KCacheNative.Console.Output;

/// <summary>Adds up the tokens of several runs for one bar.</summary>
internal sealed class TokenMeter(ProgressBars.Bar bar, double whole) : IProgress<PromptProgress>
{
    private double _before;

    /// <summary>Within the run that goes on.</summary>
    public void Report(PromptProgress value) => bar.Report(_before + value.Fraction * value.TotalTokens, whole);

    /// <summary>A run of so many tokens is complete.</summary>
    internal void Complete(int tokens) => bar.Report(_before += tokens, whole);
}
