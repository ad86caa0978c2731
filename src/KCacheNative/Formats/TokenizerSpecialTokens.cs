using System.Buffers;

namespace KCacheNative.Formats;

/// <summary>Finds tokens that are recognised as a whole within text: the leftmost, and of those that begin there the longest.</summary>
internal sealed class TokenizerSpecialTokens
{
    private readonly (string Text, int Id)[] _longestFirst;
    private readonly SearchValues<string> _texts;

    internal TokenizerSpecialTokens(IEnumerable<(string Text, int Id)> tokens)
    {
        _longestFirst = tokens.OrderByDescending(token => token.Text.Length).ToArray();
        _texts = SearchValues.Create(Array.ConvertAll(_longestFirst, token => token.Text), StringComparison.Ordinal);
    }

    /// <summary>Where the next token begins in the text, with its length and id; false if there is none.</summary>
    internal bool TryFind(ReadOnlySpan<char> text, out int start, out int length, out int id)
    {
        (length, id) = (0, -1);
        start = _longestFirst.Length == 0 ? -1 : text.IndexOfAny(_texts);
        if (start < 0)
            return false;
        foreach (var token in _longestFirst)
        {
            if (text[start..].StartsWith(token.Text, StringComparison.Ordinal))
            {
                (length, id) = (token.Text.Length, token.Id);
                break;
            }
        }

        return true;
    }
}
