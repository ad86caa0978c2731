using System.Runtime.InteropServices;
using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Evaluation;

/// <summary>
/// Asks an archive's questions under one policy. The archive is run once; each question continues a fork of it. Questions are prompts, answers are
/// decoded under the policy, greedily.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="meter">Told prompt tokens as they are done.</param>
/// <param name="cancellation">Stops the work.</param>
internal sealed class QuestionRunner(LanguageModel model, TokenMeter meter, CancellationToken cancellation)
{
    /// <summary>No right answer is nearly as long.</summary>
    internal const int MostAnswerTokens = 24;

    private readonly ForwardBatch _batch = new(1);

    /// <summary>Asks all questions.</summary>
    /// <param name="cache">An empty cache with room for two sequences.</param>
    /// <param name="prompts">The archive's prompts.</param>
    /// <returns>The answers, one a question.</returns>
    internal IReadOnlyList<string> Ask(KvCache cache, ArchivePrompts prompts)
    {
        int archive = cache.CreateSequence();
        RunPrompt(cache, archive, prompts.Shared, LogitRows.None);
        var answers = new List<string>();
        foreach (var rest in prompts.Rests)
        {
            int sequence = cache.ForkSequence(archive);
            RunPrompt(cache, sequence, rest, LogitRows.Last);
            answers.Add(Decode(cache, sequence));
            cache.FreeSequence(sequence);
        }

        cache.FreeSequence(archive);
        return answers;
    }

    private void RunPrompt(KvCache cache, int sequence, ReadOnlyMemory<int> ids, LogitRows logits)
    {
        model.RunPrompt(cache, sequence, ids, logits, progress: meter, cancellationToken: cancellation);
        meter.Complete(ids.Length);
    }

    private string Decode(KvCache cache, int sequence)
    {
        var ids = new List<int>();
        while (true)
        {
            int id = NextTokenDistribution.ArgMax(model.Model.Logits.Row(0));
            ids.Add(id);
            string text = model.Tokenizer.Decode(CollectionsMarshal.AsSpan(ids));
            int end = text.IndexOf('\n');
            if (end >= 0 || model.Tokenizer.IsEndOfGeneration(id) || ids.Count == MostAnswerTokens)
                return (end < 0 ? text : text[..end]).Trim();
            _batch.Clear();
            _batch.Add(sequence, [id], EntryKind.Decode, LogitRows.Last);
            model.Model.Forward(cache, _batch, cancellationToken: cancellation);
        }
    }
}
