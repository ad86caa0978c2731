using KCacheNative.Engine;

namespace KCacheNative.Console.Output;

/// <summary>Passes a prompt's progress on to the bar that is shown at the moment, if one is.</summary>
internal sealed class PromptBar : IProgress<PromptProgress>
{
    private volatile ProgressBars.Bar? _bar;

    public void Report(PromptProgress value) => _bar?.Report(value.Fraction, 1);

    /// <summary>Shows the prompt's progress until the first piece has come.</summary>
    /// <returns>Whether there is a piece.</returns>
    internal async Task<bool> AwaitFirstAsync(Terminal terminal, string title, IAsyncEnumerator<GeneratedPiece> pieces) =>
        await ProgressBars.RunAsync(terminal, async bars =>
        {
            using var bar = bars.Add(title);
            _bar = bar;
            try
            {
                return await pieces.MoveNextAsync();
            }
            finally
            {
                _bar = null;
            }
        });
}
