using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Engine;

/// <summary>
/// Many tokens of one sequence, in windows of at most a batch: a prompt, or a text that is scored token by token. All or nothing: after a
/// failure or a cancellation the sequence is as it was before the first window.
/// </summary>
internal sealed class SequenceRun : IProgress<int>
{
    private readonly LlamaModel _model;
    private readonly ForwardBatch _batch;
    private readonly KvCache _cache;
    private readonly int _sequence;
    private readonly ReadOnlyMemory<int> _ids;
    private readonly EntryKind _kind;
    private readonly LogitRows _logits;
    private readonly LogitsReader? _reader;
    private readonly IProgress<PromptProgress>? _progress;
    private readonly PromptCopy[] _copies;
    private readonly int _before;
    private int _done;
    private int _window;

    /// <param name="model">The model.</param>
    /// <param name="batch">Room for a window; filled anew by every step.</param>
    /// <param name="cache">The cache of the sequence.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="ids">The tokens, at least one.</param>
    /// <param name="kind">How they attend.</param>
    /// <param name="logits">Behind which of the tokens, not of each window, logits are computed.</param>
    /// <param name="reader">Takes the logits, rows counted over all windows; null: they are left in the model.</param>
    /// <param name="progress">Told per window and per layer.</param>
    /// <param name="copies">Sequences of other caches that take the same keys and values.</param>
    /// <exception cref="KCacheException">The tokens exceed the context.</exception>
    internal SequenceRun(
        LlamaModel model,
        ForwardBatch batch,
        KvCache cache,
        int sequence,
        ReadOnlyMemory<int> ids,
        EntryKind kind,
        LogitRows logits,
        LogitsReader? reader,
        IProgress<PromptProgress>? progress,
        PromptCopy[]? copies = null)
    {
        if (ids.IsEmpty)
            throw new ArgumentException("there is no token to run", nameof(ids));
        foreach (int id in ids.Span)
        {
            if ((uint)id >= (uint)model.Config.VocabularySize)
                throw new ArgumentOutOfRangeException(
                    nameof(ids), id, $"the token id is not in the vocabulary of {model.Config.VocabularySize} tokens");
        }

        _copies = copies ?? [];
        _before = cache.Length(sequence);
        int context = cache.Options.Context;
        if (ids.Length > context - _before)
        {
            string past = _before > 0 ? $" behind the {_before} of the sequence" : "";
            throw new KCacheException(
                Status.Capacity,
                $"{ids.Length} tokens{past} exceed the context of {context}: shorten the text, or ask for a longer context");
        }

        (_model, _batch, _cache, _sequence, _ids) = (model, batch, cache, sequence, ids);
        (_kind, _logits, _reader, _progress) = (kind, logits, reader, progress);
    }

    private int WindowTokens => Math.Min(_cache.Options.BatchTokens, Math.Min(_model.BatchTokens, _batch.Capacity));

    /// <summary>Runs the next window; returns whether it was the last.</summary>
    internal bool Step(CancellationToken cancellationToken)
    {
        try
        {
            _window = Math.Min(WindowTokens, _ids.Length - _done);
            bool last = _done + _window == _ids.Length;
            _batch.Clear();
            _batch.Add(_sequence, _ids.Span.Slice(_done, _window), _kind, _logits == LogitRows.Last && !last ? LogitRows.None : _logits);
            int first = _logits == LogitRows.All ? _done : 0;
            LogitsReader? reader = _reader is null ? null : (row, logits) => _reader(first + row, logits);
            _model.Forward(_cache, _batch, reader, _progress is null ? null : this, _copies, cancellationToken);
            _done += _window;
            _window = 0;
            Report(0);
            return last;
        }
        catch
        {
            Restore(_cache, _sequence, _before);
            foreach (var copy in _copies)
                Restore(copy.Cache, copy.Sequence, _before);
            throw;
        }
    }

    /// <summary>Runs all windows.</summary>
    internal void RunToEnd(CancellationToken cancellationToken)
    {
        while (!Step(cancellationToken))
        {
        }
    }

    /// <summary>
    /// Forgets tokens from <paramref name="length"/> on. Where the policy has already forgotten what would then be the recent tokens, the
    /// sequence becomes empty, and whoever keeps its tokens runs them again.
    /// </summary>
    internal static void Restore(KvCache cache, int sequence, int length)
    {
        if (cache.Length(sequence) <= length)
            return;
        try
        {
            cache.Truncate(sequence, length);
        }
        catch (KCacheException e) when (e.Status == Status.Argument && cache.Policy.Kind == PolicyKind.Window)
        {
            cache.Truncate(sequence, 0);
        }
    }

    /// <summary>Passes the layers of the running window on.</summary>
    public void Report(int value) =>
        _progress?.Report(new PromptProgress(_done, _ids.Length, _window, value, _model.Config.Layers));
}
