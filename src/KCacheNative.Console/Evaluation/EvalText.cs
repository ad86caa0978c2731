using KCacheNative.Formats;

namespace KCacheNative.Console.Evaluation;

/// <summary>Which parts of a text are evaluated.</summary>
/// <param name="File">The text file.</param>
/// <param name="Content">What it holds.</param>
/// <param name="Context">Tokens of a window.</param>
/// <param name="Last">Tokens predicted one by one at its end.</param>
/// <param name="Windows">Numbers of the windows.</param>
internal sealed record EvalText(string File, string Content, int Context, int Last, int[] Windows)
{
    /// <exception cref="UsageException">The numbers do not go together.</exception>
    internal void Check()
    {
        // at least one token must stand before the first one that is fed
        if (Last > Context - 2)
            throw new UsageException($"--last {Last} leaves no prompt in a window of --context {Context}; give at most {Math.Max(Context - 2, 0)}, or a longer context.");
    }

    /// <summary>The windows' tokens: the text is tokenised as a whole, without a beginning token.</summary>
    /// <exception cref="UsageException">The text has no such window.</exception>
    internal int[][] Read(Tokenizer tokenizer)
    {
        int[] ids = tokenizer.Encode(Content);
        int count = ids.Length / Context;
        foreach (int window in Windows)
        {
            if (window >= count)
                throw new UsageException(count == 0
                    ? $"'{File}' has {ids.Length} tokens, less than one window of --context {Context}; give a longer text or a shorter context."
                    : $"'{File}' has {ids.Length} tokens, so its windows of --context {Context} are 0 to {count - 1}; there is no window {window}.");
        }

        return Array.ConvertAll(Windows, window => ids.AsSpan(window * Context, Context).ToArray());
    }
}
