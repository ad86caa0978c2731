using System.Runtime.CompilerServices;
using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Engine;

/// <summary>
/// A text that grows: prompts are appended and continuations generated on one sequence of a cache, so that a prompt costs its own tokens
/// only. One generation at a time; several sessions of a model take turns on the model's computing thread.
/// </summary>
public sealed class Session : IDisposable
{
    private readonly KvCache _cache;
    private readonly List<int> _tokens = [];
    private int _generating;

    internal Session(LanguageModel model, KvCache cache)
    {
        Model = model;
        _cache = cache;
        Batch = new ForwardBatch(Math.Min(model.BatchTokens, cache.Options.BatchTokens));
        Sequence = cache.CreateSequence();
    }

    /// <summary>The model.</summary>
    public LanguageModel Model { get; }

    /// <summary>The cache of this session alone.</summary>
    public KvCache Cache => _cache;

    /// <summary>The text so far, as tokens: prompts and continuations. The last ones may not be in the cache yet.</summary>
    public IReadOnlyList<int> Tokens => _tokens;

    /// <summary>Most tokens of the text.</summary>
    public int ContextTokens => _cache.Options.Context;

    /// <summary>The last generation; null before the first.</summary>
    public GenerationResult? LastResult { get; internal set; }

    internal ForwardBatch Batch { get; }

    internal int Sequence { get; }

    /// <summary>Appends a text and generates its continuation; the pieces come as they are generated.</summary>
    /// <param name="prompt">The text; at the beginning of a session the model's beginning token goes before it, if it asks for one.</param>
    /// <param name="options">How; null for greedy until the context is full.</param>
    /// <param name="cancellationToken">Ends the generation between two layers; the session is then as it was before the call. So it is
    /// when the enumeration is left early.</param>
    /// <exception cref="KCacheException">The prompt does not fit into the context; nothing was run.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; <see cref="LastResult"/> has what was generated.</exception>
    public IAsyncEnumerable<GeneratedPiece> GenerateAsync(
        string prompt, GenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new GenerationOptions();
        return GenerateAsync(Encode(prompt, options), options, cancellationToken);
    }

    /// <summary>Appends tokens and generates their continuation; the pieces come as they are generated.</summary>
    /// <param name="ids">The tokens; may be empty when the text ends with tokens that are not in the cache yet.</param>
    /// <param name="options">How; null for greedy until the context is full.</param>
    /// <param name="cancellationToken">As for a text.</param>
    /// <exception cref="ArgumentException">An id is not in the vocabulary.</exception>
    /// <exception cref="KCacheException">The prompt does not fit into the context; nothing was run.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; <see cref="LastResult"/> has what was generated.</exception>
    public async IAsyncEnumerable<GeneratedPiece> GenerateAsync(
        ReadOnlyMemory<int> ids, GenerationOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        using var cancellation = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var generation = Start(ids, options ?? new GenerationOptions(), cancellation.Token);
        bool complete = false;
        try
        {
            await foreach (var piece in generation.Pieces.ReadAllAsync(CancellationToken.None).ConfigureAwait(false))
            {
                yield return piece;
                // Tokens may have been generated ahead of the reader; what counts is what was read before the cancellation.
                cancellationToken.ThrowIfCancellationRequested();
            }

            complete = true;
        }
        finally
        {
            cancellation.Cancel();
            await generation.Ended.ConfigureAwait(false);
            if (!complete)
                generation.Undo();
            End();
        }
    }

    /// <summary>Appends a text and generates its continuation to the end.</summary>
    /// <param name="prompt">As for <see cref="GenerateAsync(string, GenerationOptions?, CancellationToken)"/>.</param>
    /// <param name="options">How; null for greedy until the context is full.</param>
    /// <param name="cancellationToken">Ends the generation; the session is then as it was before the call.</param>
    public Task<GenerationResult> CompleteAsync(
        string prompt, GenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new GenerationOptions();
        return CompleteAsync(Encode(prompt, options), options, cancellationToken);
    }

    /// <summary>Appends tokens and generates their continuation to the end.</summary>
    /// <param name="ids">The tokens.</param>
    /// <param name="options">How; null for greedy until the context is full.</param>
    /// <param name="cancellationToken">Ends the generation; the session is then as it was before the call.</param>
    public async Task<GenerationResult> CompleteAsync(
        ReadOnlyMemory<int> ids, GenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        await foreach (var _ in GenerateAsync(ids, options, cancellationToken).ConfigureAwait(false))
        {
        }

        return LastResult!;
    }

    /// <summary>Forgets the tokens from <paramref name="length"/> on.</summary>
    public void Truncate(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        RequireIdle();
        lock (Model.Gate)
            Forget(length);
    }

    /// <summary>Frees the cache. A generation under way must have ended.</summary>
    public void Dispose()
    {
        RequireIdle();
        lock (Model.Gate)
            _cache.Dispose();
    }

    internal List<int> Text => _tokens;

    /// <summary>Adds tokens that the next prompt begins with.</summary>
    internal void Append(ReadOnlySpan<int> ids)
    {
        RequireIdle();
        _tokens.AddRange(ids);
    }

    internal void Forget(int length)
    {
        if (length < _tokens.Count)
            _tokens.RemoveRange(length, _tokens.Count - length);
        SequenceRun.Restore(_cache, Sequence, length);
    }

    private Generation Start(ReadOnlyMemory<int> ids, GenerationOptions options, CancellationToken cancellationToken)
    {
        if (Interlocked.Exchange(ref _generating, 1) != 0)
            throw new InvalidOperationException(
                "this session is generating; await the end of one generation before the next, or use another session");
        try
        {
            var generation = new Generation(this, ids, options, cancellationToken);
            Model.Compute.Add(generation);
            return generation;
        }
        catch
        {
            End();
            throw;
        }
    }

    private ReadOnlyMemory<int> Encode(string prompt, GenerationOptions options) => _tokens.Count == 0
        ? Model.Tokenizer.EncodePrompt(prompt, options.RecognizeControl)
        : Model.Tokenizer.Encode(prompt, options.RecognizeControl);

    private void End() => Volatile.Write(ref _generating, 0);

    private void RequireIdle()
    {
        if (Volatile.Read(ref _generating) != 0)
            throw new InvalidOperationException("this session is generating; await the end of the generation first");
    }
}
