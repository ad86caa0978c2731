using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Evaluation;

/// <summary>
/// Predicts the last tokens of a window of text one by one, each fed with the token before; what stands before them is a prompt. The steps
/// of a piece run as one forward, which gives the same bits as one forward each.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="last">Steps of a window.</param>
/// <param name="meter">Told tokens as they are done.</param>
/// <param name="cancellation">Stops the work.</param>
internal sealed class WindowEvaluator(LanguageModel model, int last, TokenMeter meter, CancellationToken cancellation)
{
    private const int PieceBytes = 16 << 20;

    /// <summary>Takes the number of a step and its logits [vocab], which are valid during the call.</summary>
    internal delegate void StepReader(int step, ReadOnlySpan<float> logits);

    /// <summary>Tokens that a cache runs for a window: the last is predicted, never fed.</summary>
    internal static int TokensRun(int windowTokens) => windowTokens - 1;

    /// <summary>The tokens that should come next, one a step.</summary>
    internal ReadOnlySpan<int> Targets(int[] window) => window.AsSpan(window.Length - last);

    /// <summary>Opens a sequence of a cache whose statistics begin anew, and runs a window's prompt on it.</summary>
    /// <returns>The sequence.</returns>
    internal int RunPrompt(KvCache cache, int[] window)
    {
        cache.ResetStatistics();
        int sequence = cache.CreateSequence();
        var prompt = window.AsMemory(0, window.Length - last - 1);
        model.RunPrompt(cache, sequence, prompt, LogitRows.None, progress: meter, cancellationToken: cancellation);
        meter.Complete(prompt.Length);
        return sequence;
    }

    /// <summary>Runs some of a window's steps, in order.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="sequence">What <see cref="RunPrompt"/> returned.</param>
    /// <param name="window">The window's tokens.</param>
    /// <param name="first">The first step.</param>
    /// <param name="count">How many.</param>
    /// <param name="reader">Takes the logits.</param>
    internal void RunSteps(KvCache cache, int sequence, int[] window, int first, int count, StepReader reader)
    {
        var fed = window.AsMemory(window.Length - last - 1 + first, count);
        model.ScoreDecode(
            cache,
            sequence,
            fed,
            (row, logits) =>
            {
                for (int i = 0; i < logits.Rows; i++)
                    reader(first + row + i, logits.Row(i));
            },
            meter,
            cancellation);
        meter.Complete(count);
    }

    /// <summary>Compares a policy with full attention over a window, piece by piece, so that few logits are held.</summary>
    /// <param name="full">The cache of full attention.</param>
    /// <param name="policy">The cache of the policy; null: it is full attention itself.</param>
    /// <param name="window">The window's tokens.</param>
    /// <param name="number">The window's number.</param>
    internal WindowReport Compare(KvCache full, KvCache? policy, int[] window, int number)
    {
        var comparison = new WindowComparison();
        int fullSequence = RunPrompt(full, window);
        int policySequence = policy is null ? -1 : RunPrompt(policy, window);
        int vocabulary = model.Config.VocabularySize;
        var rows = new ReferenceRows(Math.Clamp(PieceBytes / sizeof(float) / vocabulary, 1, Math.Min(last, model.BatchTokens)), vocabulary);
        for (int first = 0; first < last; first += rows.Capacity)
        {
            int count = Math.Min(rows.Capacity, last - first), begin = first;
            RunSteps(full, fullSequence, window, first, count, (step, logits) => rows.Keep(step - begin, logits));
            if (policy is null)
            {
                for (int i = 0; i < count; i++)
                    comparison.AddReference(rows.Logits(i), rows.LogSumExp(i), Targets(window)[first + i]);
                continue;
            }

            RunSteps(policy, policySequence, window, first, count,
                (step, logits) => comparison.Add(rows.Logits(step - begin), rows.LogSumExp(step - begin), logits, Targets(window)[step]));
        }

        full.FreeSequence(fullSequence);
        policy?.FreeSequence(policySequence);
        return comparison.Summarize(number, policy ?? full);
    }
}
