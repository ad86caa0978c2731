using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Threading.Channels;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Engine;

/// <summary>
/// One call of <see cref="Session.GenerateAsync(ReadOnlyMemory{int}, GenerationOptions?, CancellationToken)"/>: the windows of the prompt,
/// then a step per token, on the computing thread. If it does not end by itself, the session is put back to where it was.
/// </summary>
internal sealed class Generation : IStepwise
{
    private readonly Session _session;
    private readonly CancellationToken _cancellationToken;
    private readonly Channel<GeneratedPiece> _pieces = Channel.CreateUnbounded<GeneratedPiece>(
        new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });

    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ReadOnlyMemory<int> _ids;
    private readonly GenerationOptions _options;
    private readonly int _before;
    private SequenceRun? _prompt;
    private Continuation? _continuation;
    private GenerationResult? _result;
    private bool _promptDone;
    private int _promptTokens;
    private int _decodeTokens;
    private long _promptTicks;
    private long _decodeTicks;

    internal Generation(Session session, ReadOnlyMemory<int> ids, GenerationOptions options, CancellationToken cancellationToken)
    {
        (_session, _ids, _options, _cancellationToken) = (session, ids, options, cancellationToken);
        _before = session.Text.Count;
    }

    internal ChannelReader<GeneratedPiece> Pieces => _pieces.Reader;

    /// <summary>Completes, never faulted, when nothing of this runs any more.</summary>
    internal Task Ended => _ended.Task;

    public bool Step()
    {
        long start = Stopwatch.GetTimestamp();
        try
        {
            _cancellationToken.ThrowIfCancellationRequested();
            if (_promptDone)
            {
                Decode();
                _decodeTicks += Stopwatch.GetTimestamp() - start;
            }
            else
            {
                RunPrompt();
                _promptTicks += Stopwatch.GetTimestamp() - start;
            }

            if (_continuation!.Finish == FinishReason.None)
                return false;
            End(_continuation.Finish, null);
        }
        catch (OperationCanceledException e)
        {
            End(FinishReason.Cancelled, e);
        }
        catch (Exception e)
        {
            End(FinishReason.None, e);
        }

        return true;
    }

    /// <summary>Puts the session back to where it was, after the end, when nobody wanted to see it.</summary>
    internal void Undo()
    {
        lock (_session.Model.Gate)
            _session.Forget(_before);
        if (_result is not null)
            _session.LastResult = _result with { FinishReason = FinishReason.Cancelled };
    }

    public void Abandon() => End(FinishReason.Cancelled, new OperationCanceledException("the model was disposed"));

    // Not in the constructor: a cache is asked on the computing thread alone.
    private SequenceRun Begin()
    {
        var (model, text) = (_session.Model, _session.Text);
        text.AddRange(_ids.Span);
        int cached = _session.Cache.Length(_session.Sequence);
        _promptTokens = text.Count - cached;
        var prompt = new SequenceRun(
            model.Model,
            _session.Batch,
            _session.Cache,
            _session.Sequence,
            text[cached..].ToArray(),
            EntryKind.Prompt,
            LogitRows.Last,
            reader: null,
            _options.Progress);
        _continuation = new Continuation(model.Tokenizer, CollectionsMarshal.AsSpan(text), _options, _session.ContextTokens - text.Count);
        _session.Cache.ResetStatistics();
        return prompt;
    }

    private void RunPrompt()
    {
        _prompt ??= Begin();
        _promptDone = _prompt.Step(_cancellationToken);
        if (_promptDone)
            Choose();
    }

    private void Decode()
    {
        var batch = _session.Batch;
        batch.Clear();
        batch.Add(_session.Sequence, CollectionsMarshal.AsSpan(_session.Text)[^1..], EntryKind.Decode, LogitRows.Last);
        _session.Model.Model.Forward(_session.Cache, batch, cancellationToken: _cancellationToken);
        _decodeTokens++;
        Choose();
    }

    private void Choose()
    {
        if (_continuation!.Next(_session.Model.Model.Logits.Row(0)) is not { } piece)
            return;
        _session.Text.Add(piece.TokenId);
        _pieces.Writer.TryWrite(piece);
    }

    private void End(FinishReason reason, Exception? failure)
    {
        try
        {
            if (failure is null or OperationCanceledException)
                _session.LastResult = _result = Result(reason);
            if (failure is not null)
                _session.Forget(_before);
        }
        catch (Exception e)
        {
            failure ??= e;
        }

        _pieces.Writer.Complete(failure);
        _ended.SetResult();
    }

    private GenerationResult Result(FinishReason reason) => new()
    {
        FinishReason = reason,
        StopString = _continuation?.StopString,
        Text = _continuation?.Text ?? "",
        Ids = _continuation?.Ids.ToArray() ?? [],
        PromptTokens = _promptTokens,
        PromptTime = Stopwatch.GetElapsedTime(0, _promptTicks),
        DecodeTokens = _decodeTokens,
        DecodeTime = Stopwatch.GetElapsedTime(0, _decodeTicks),
        Steps = _session.Cache.Statistics(),
        Cache = _session.Cache.Memory,
    };
}
