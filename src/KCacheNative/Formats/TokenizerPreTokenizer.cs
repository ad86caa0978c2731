using System.Globalization;
using Microsoft.ML.Tokenizers;

namespace KCacheNative.Formats;

/// <summary>
/// Cuts text into the words within which byte-level BPE merges: GPT-2's pattern, and before it, for "smollm", every number character alone.
/// It matches by hand and by code point, because .NET's regular expressions see characters beyond U+FFFF as two halves without a category.
/// </summary>
/// <remarks>
/// Source: GPT-2's encoder.py, <c>'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+</c>.
/// </remarks>
internal sealed class TokenizerPreTokenizer(bool isolatesDigits) : PreTokenizer
{
    private enum Kind
    {
        End,
        Space,
        Letter,
        Number,
        Other,
    }

    /// <summary>The values of tokenizer.ggml.pre that are supported, for messages.</summary>
    internal const string SupportedNames = "gpt-2, default, smollm";

    /// <summary>The pre-tokenizer of a name in tokenizer.ggml.pre, or null.</summary>
    internal static TokenizerPreTokenizer? ByName(string name) => name switch
    {
        "gpt-2" or "default" => new TokenizerPreTokenizer(isolatesDigits: false),
        "smollm" => new TokenizerPreTokenizer(isolatesDigits: true),
        _ => null,
    };

    public override IEnumerable<(int Offset, int Length)> PreTokenize(string text)
    {
        for (int start = 0; start < text.Length;)
        {
            int end = WordEnd(text, start);
            yield return (start, end - start);
            start = end;
        }
    }

    public override IEnumerable<(int Offset, int Length)> PreTokenize(ReadOnlySpan<char> text) => PreTokenize(text.ToString());

    private int WordEnd(string text, int start)
    {
        int contraction = ContractionLength(text.AsSpan(start));
        if (contraction > 0)
            return start + contraction;

        // A blank belongs to the word behind it.
        int wordStart = text[start] == ' ' ? start + 1 : start;
        var kind = KindAt(text, wordStart, out int length);
        if (kind == Kind.Number && isolatesDigits)
            return wordStart == start ? start + length : wordStart;
        if (kind is Kind.Letter or Kind.Number or Kind.Other)
        {
            int end = wordStart;
            do
                end += length;
            while (KindAt(text, end, out length) == kind);
            return end;
        }

        int spacesEnd = start + 1;
        while (KindAt(text, spacesEnd, out _) == Kind.Space)
            spacesEnd++;

        // The last of several spaces is left to what follows; at the end of a text, and before an isolated digit, nothing follows.
        var follows = KindAt(text, spacesEnd, out _);
        bool nothingFollows = follows == Kind.End || (follows == Kind.Number && isolatesDigits);
        return nothingFollows || spacesEnd == start + 1 ? spacesEnd : spacesEnd - 1;
    }

    private static int ContractionLength(ReadOnlySpan<char> text)
    {
        if (text[0] != '\'' || text.Length < 2)
            return 0;
        if (text[1] is 's' or 't' or 'm' or 'd')
            return 2;
        return text.Length > 2 && (text[1], text[2]) is ('r', 'e') or ('v', 'e') or ('l', 'l') ? 3 : 0;
    }

    private static Kind KindAt(string text, int at, out int length)
    {
        length = 1;
        if (at >= text.Length)
            return Kind.End;
        if (char.IsWhiteSpace(text[at]))
            return Kind.Space;
        if (char.IsSurrogatePair(text, at))
            length = 2;
        return CharUnicodeInfo.GetUnicodeCategory(text, at) switch
        {
            UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
                or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => Kind.Letter,
            UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Kind.Number,
            _ => Kind.Other,
        };
    }
}
