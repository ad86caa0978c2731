using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Engine;

/// <summary>A text of a batch.</summary>
/// <param name="Ids">The tokens generated, the end token included.</param>
/// <param name="Text">The text, without control tokens and without the stop string.</param>
/// <param name="FinishReason">Why it ended.</param>
public sealed record BatchResult(IReadOnlyList<int> Ids, string Text, FinishReason FinishReason);

/// <summary>
/// Continues many prompts at once: all texts that have not ended take each decode step in one forward, so that the weights are read once
/// for all of them. Each text gets the tokens that it would get alone.
/// </summary>
public sealed class BatchGenerator
{
    private readonly LanguageModel _model;
    private readonly KvCache _cache;
    private readonly ForwardBatch _batch;

    /// <summary>Prepares.</summary>
    /// <param name="model">The model.</param>
    /// <param name="cache">A cache of the model; its sequences are opened and closed here. Stays the caller's.</param>
    public BatchGenerator(LanguageModel model, KvCache cache)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(cache);
        (_model, _cache) = (model, cache);
        _batch = new ForwardBatch(Math.Min(model.BatchTokens, cache.Options.BatchTokens), cache.Options.Sequences);
        lock (model.Gate)
            model.Model.ReserveLogits(cache.Options.Sequences);
    }

    /// <summary>Continues prompts on the caller's thread, as many at a time as the cache has sequences.</summary>
    /// <param name="prompts">Token ids of each prompt.</param>
    /// <param name="options">How; every text draws its own random numbers from the same seed.</param>
    /// <param name="cancellationToken">Ends everything.</param>
    /// <returns>A result per prompt, in order.</returns>
    /// <exception cref="ArgumentException">An id is not in the vocabulary.</exception>
    /// <exception cref="KCacheException">A prompt does not fit into the context.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public IReadOnlyList<BatchResult> Generate(
        IReadOnlyList<ReadOnlyMemory<int>> prompts, GenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(prompts);
        options ??= new GenerationOptions();
        var texts = prompts.Select(prompt => new Text(_model, prompt, options, _cache.Options.Context)).ToArray();
        var running = new List<Text>();
        int next = 0;
        try
        {
            while (next < texts.Length || running.Count > 0)
            {
                while (next < texts.Length && running.Count < _cache.Options.Sequences)
                    Start(texts[next++], running, options, cancellationToken);
                if (running.Count > 0)
                    Step(running, cancellationToken);
                foreach (var text in running.Where(text => !text.IsRunning))
                    _cache.FreeSequence(text.Sequence);
                running.RemoveAll(text => !text.IsRunning);
            }
        }
        finally
        {
            foreach (var text in running)
                _cache.FreeSequence(text.Sequence);
        }

        return [.. texts.Select(text => new BatchResult(text.Continuation.Ids, text.Continuation.Text, text.Continuation.Finish))];
    }

    private void Start(Text text, List<Text> running, GenerationOptions options, CancellationToken cancellationToken)
    {
        text.Sequence = _cache.CreateSequence();
        running.Add(text);
        lock (_model.Gate)
        {
            new SequenceRun(
                _model.Model, _batch, _cache, text.Sequence, text.Prompt, EntryKind.Prompt, LogitRows.Last, null, options.Progress)
                .RunToEnd(cancellationToken);
            text.Continuation.Next(_model.Model.Logits.Row(0));
        }
    }

    private void Step(List<Text> running, CancellationToken cancellationToken)
    {
        lock (_model.Gate)
        {
            _batch.Clear();
            foreach (var text in running)
            {
                if (text.IsRunning)
                    _batch.Add(text.Sequence, [text.Continuation.Ids[^1]], EntryKind.Decode, LogitRows.Last);
            }

            if (_batch.Tokens == 0)
                return;
            _model.Model.Forward(_cache, _batch, cancellationToken: cancellationToken);
            int row = 0;
            foreach (var text in running)
            {
                if (text.IsRunning)
                    text.Continuation.Next(_model.Model.Logits.Row(row++));
            }
        }
    }

    private sealed class Text(LanguageModel model, ReadOnlyMemory<int> prompt, GenerationOptions options, int contextTokens)
    {
        internal ReadOnlyMemory<int> Prompt => prompt;

        internal Continuation Continuation { get; } = new(model.Tokenizer, prompt.Span, options, contextTokens - prompt.Length);

        internal bool IsRunning => Continuation.Finish == FinishReason.None;

        internal int Sequence { get; set; }
    }
}
