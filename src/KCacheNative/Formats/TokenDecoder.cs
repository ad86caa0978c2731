using System.Text;

namespace KCacheNative.Formats;

/// <summary>
/// Turns one stream of tokens into text as it comes, never splitting a character: bytes of an unfinished UTF-8 sequence wait for the
/// next token. Invalid sequences become U+FFFD. Appending allocates nothing. Not for concurrent use.
/// </summary>
public sealed class TokenDecoder
{
    private readonly Tokenizer _tokenizer;
    private readonly bool _showControl;
    private readonly Decoder _utf8 = Encoding.UTF8.GetDecoder();
    private readonly char[] _text;

    internal TokenDecoder(Tokenizer tokenizer, bool showControl)
    {
        _tokenizer = tokenizer;
        _showControl = showControl;
        _text = new char[Encoding.UTF8.GetMaxCharCount(tokenizer.LongestTokenBytes)];
    }

    /// <summary>Adds a token and returns the text that it completes, maybe empty; valid until the next call.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is not in the vocabulary.</exception>
    public ReadOnlySpan<char> Append(int id)
    {
        var bytes = _tokenizer.TokenBytes(id);
        if (!_showControl && _tokenizer.KindOf(id) == TokenKind.Control)
            return [];
        return _text.AsSpan(0, _utf8.GetChars(bytes, _text, flush: false));
    }

    /// <summary>Ends the stream: an unfinished sequence becomes U+FFFD. The decoder can then start another stream.</summary>
    public ReadOnlySpan<char> Flush() => _text.AsSpan(0, _utf8.GetChars([], _text, flush: true));
}
