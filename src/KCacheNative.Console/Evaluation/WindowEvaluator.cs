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

    /// <summary>
    /// Opens a sequence of each cache, whose statistics begin anew, and runs a window's prompt: once, where the caches' prompts attend alike.
    /// </summary>
    /// <returns>The sequences.</returns>
    internal int[] RunPrompts(KvCache[] caches, int[] window)
    {
        int[] sequences = new int[caches.Length];
        for (int i = 0; i < caches.Length; i++)
        {
            caches[i].ResetStatistics();
            sequences[i] = caches[i].CreateSequence();
        }

        var prompt = window.AsMemory(0, window.Length - last - 1);
        var done = new bool[caches.Length];
        for (int i = 0; i < caches.Length; i++)
        {
            if (done[i])
                continue;
            int[] alike = PromptsAreExact(caches[i].Policy)
                ? [.. Enumerable.Range(i + 1, caches.Length - i - 1).Where(j => PromptsAreExact(caches[j].Policy))]
                : [];
            foreach (int j in alike)
                done[j] = true;
            PromptCopy[] copies = [.. alike.Select(j => new PromptCopy(caches[j], sequences[j]))];
            model.RunPrompt(caches[i], sequences[i], prompt, LogitRows.None, progress: meter, copies: copies, cancellationToken: cancellation);
            meter.Complete(prompt.Length * (1 + copies.Length));
        }

        return sequences;
    }

    /// <summary>Whether prompts attend over every key and value in 16 bits.</summary>
    private static bool PromptsAreExact(CachePolicy policy) => policy.Kind switch
    {
        PolicyKind.Sketch => policy.KeyCodec != Codec.Q8,
        PolicyKind.Full or PolicyKind.KCache => Is16Bits(policy.KeyCodec) && Is16Bits(policy.ValueCodec),
        _ => false,
    };

    private static bool Is16Bits(Codec codec) => codec is Codec.F16 or Codec.Default;

    /// <summary>Runs some of a window's steps, in order.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="sequence">What <see cref="RunPrompts"/> returned.</param>
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
        int[] sequences = RunPrompts(policy is null ? [full] : [full, policy], window);
        int fullSequence = sequences[0], policySequence = sequences[^1];
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
