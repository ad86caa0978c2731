using System.Runtime.CompilerServices;
using KCacheNative.Formats;

namespace KCacheNative.Engine;

/// <summary>
/// A chat. Only the new turn is run: the sequence keeps what was said before, and its tokens are those that the model's template would
/// write for the whole chat.
/// </summary>
public sealed class Conversation : IDisposable
{
    private readonly ChatTemplate _template;
    private readonly List<ChatMessage> _messages = [];

    internal Conversation(Session session, ChatTemplate template, string? systemMessage)
    {
        Session = session;
        _template = template;
        if (systemMessage is not null)
            _messages.Add(new ChatMessage("system", systemMessage));
    }

    /// <summary>The sequence of the chat.</summary>
    public Session Session { get; }

    /// <summary>What was said; a turn that was cancelled is not part of it.</summary>
    public IReadOnlyList<ChatMessage> Messages => _messages;

    /// <summary>Says something and streams the answer.</summary>
    /// <param name="message">What the user says; control tokens in it are plain text.</param>
    /// <param name="options">How; null for greedy until the turn ends.</param>
    /// <param name="cancellationToken">Ends the answer; the chat is then as it was before the call.</param>
    /// <exception cref="KCacheException">The turn does not fit into the context; nothing was run.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public async IAsyncEnumerable<GeneratedPiece> SendAsync(
        string message, GenerationOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(message);
        var said = new ChatMessage("user", message);
        await foreach (var piece in Session.GenerateAsync(TurnTokens(said), options, cancellationToken).ConfigureAwait(false))
            yield return piece;
        CloseTurn();
        _messages.Add(said);
        _messages.Add(new ChatMessage("assistant", Session.LastResult!.Text));
    }

    /// <summary>Says something and waits for the whole answer.</summary>
    /// <param name="message">What the user says.</param>
    /// <param name="options">How; null for greedy until the turn ends.</param>
    /// <param name="cancellationToken">Ends the answer; the chat is then as it was before the call.</param>
    public async Task<GenerationResult> CompleteAsync(
        string message, GenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        await foreach (var _ in SendAsync(message, options, cancellationToken).ConfigureAwait(false))
        {
        }

        return Session.LastResult!;
    }

    /// <summary>Frees the cache.</summary>
    public void Dispose() => Session.Dispose();

    private int[] TurnTokens(ChatMessage said) => Session.Tokens.Count > 0
        ? _template.RenderContinuation([said]).Encode(Session.Model.Tokenizer)
        : _template.Render([.. _messages, said]).EncodePrompt(Session.Model.Tokenizer);

    /// <summary>
    /// Makes the answer's tokens end as the template ends a turn: without what the model wrote behind a stop string, and with the token
    /// that ends a turn, whatever ended this one.
    /// </summary>
    private void CloseTurn()
    {
        var (tokenizer, result) = (Session.Model.Tokenizer, Session.LastResult!);
        int start = Session.Tokens.Count - result.Ids.Count;
        int answer = result.Ids.Count;
        if (answer > 0 && tokenizer.IsEndOfGeneration(result.Ids[^1]))
            answer--;
        int[] rest = [];
        if (result.StopString is not null)
        {
            int[] shown = tokenizer.Encode(result.Text);
            int same = shown.AsSpan().CommonPrefixLength([.. result.Ids]);
            (answer, rest) = (same, shown[same..]);
        }

        Session.Truncate(start + answer);
        if (!tokenizer.TryGetId(ChatTemplate.TurnEnd, out int turnEnd))
            throw new KCacheException(
                $"the model has no token '{ChatTemplate.TurnEnd}' to end a turn with; use a model with a vocabulary for chats");
        Session.Append([.. rest, turnEnd]);
    }
}
