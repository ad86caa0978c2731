using System.Text;

namespace KCacheNative.Formats;

/// <summary>A rendered conversation: control tokens and plain text in alternation, so that no content passes for a control token.</summary>
public sealed class ChatRendering
{
    private readonly List<(string Text, bool IsControl)> _segments = [];
    private readonly StringBuilder _plain = new();

    /// <summary>The whole text, as the model's template writes it.</summary>
    public string Text => string.Concat(_segments.Select(segment => segment.Text)) + _plain;

    /// <summary>The token ids; without a beginning token.</summary>
    /// <param name="tokenizer">The tokenizer of the same model.</param>
    /// <exception cref="KCacheException">The vocabulary lacks a control token of the template.</exception>
    public int[] Encode(Tokenizer tokenizer) => Encode(tokenizer, isPrompt: false);

    /// <summary>The token ids of a whole prompt: with the beginning token in front where the model asks for one.</summary>
    /// <param name="tokenizer">The tokenizer of the same model.</param>
    /// <exception cref="KCacheException">The vocabulary lacks a control token of the template.</exception>
    public int[] EncodePrompt(Tokenizer tokenizer) => Encode(tokenizer, isPrompt: true);

    internal ChatRendering Control(string token)
    {
        CompletePlain();
        _segments.Add((token, true));
        return this;
    }

    internal ChatRendering Plain(string text)
    {
        _plain.Append(text);
        return this;
    }

    private int[] Encode(Tokenizer tokenizer, bool isPrompt)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        CompletePlain();
        var ids = new List<int>();
        if (isPrompt && tokenizer.AddsBos)
            ids.Add(tokenizer.BosId!.Value);
        foreach (var (text, isControl) in _segments)
        {
            if (!isControl)
                tokenizer.EncodeInto(text, recognizeControl: false, ids);
            else if (tokenizer.TryGetId(text, out int id))
                ids.Add(id);
            else
                throw new KCacheException(
                    $"the chat template writes '{text}', which is no token of the model; use a model with a vocabulary for chats.");
        }

        return [.. ids];
    }

    private void CompletePlain()
    {
        if (_plain.Length > 0)
            _segments.Add((_plain.ToString(), false));
        _plain.Clear();
    }
}
