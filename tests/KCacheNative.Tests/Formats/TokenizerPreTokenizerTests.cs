using System.Text.RegularExpressions;
using KCacheNative.Formats;

namespace KCacheNative.Tests.Formats;

/// <summary>The hand-written matcher against the pattern itself, where .NET's regular expressions can run it; and beyond.</summary>
public sealed partial class TokenizerPreTokenizerTests
{
    private const string Awkward = " \t\n\r\u00A0\u2003\u3000\u0085\u2028'srtvelmd'SaZéßǅʰªºЖ日한ا\u0301\u200D\uFEFF\0\u0007019½²Ⅷ٣५５_-.,!?€∑\uFFFD\uE000";

    [Test]
    public void Gpt2IsItsPattern()
    {
        foreach (string text in RandomTexts())
            Assert.That(Words("gpt-2", text), Is.EqualTo(Pattern().Matches(text).Select(match => match.Value)), Escaped(text));
    }

    [Test]
    public void SmolLmIsItsPatternBetweenNumbers()
    {
        foreach (string text in RandomTexts())
        {
            var expected = Number().Split(text).SelectMany(
                part => Number().IsMatch(part) ? [part] : Pattern().Matches(part).Select(match => match.Value));
            Assert.That(Words("smollm", text), Is.EqualTo(expected), Escaped(text));
        }
    }

    [Test]
    public void CharactersBeyondTheBasicPlaneHaveTheirCategory()
    {
        // Mathematical letters and digits, Gothic, an emoji: a letter, a digit and a symbol each keep to themselves.
        Assert.That(Words("gpt-2", "a𝒜𐍈🦊🦊𝟎𝟏1"), Is.EqualTo(new[] { "a𝒜𐍈", "🦊🦊", "𝟎𝟏1" }));
        Assert.That(Words("smollm", "a𝒜𐍈🦊🦊𝟎𝟏1"), Is.EqualTo(new[] { "a𝒜𐍈", "🦊🦊", "𝟎", "𝟏", "1" }));
        Assert.That(Words("gpt-2", "x  𠮷"), Is.EqualTo(new[] { "x", " ", " 𠮷" }));
        Assert.That(Words("smollm", "x  𝟏"), Is.EqualTo(new[] { "x", "  ", "𝟏" }));
    }

    [Test]
    public void OtherNamesAreUnknown() => Assert.That(TokenizerPreTokenizer.ByName("llama-bpe"), Is.Null);

    private static IEnumerable<string> RandomTexts()
    {
        var random = new Random(1);
        for (int round = 0; round < 20_000; round++)
            yield return string.Concat(Enumerable.Range(0, random.Next(12)).Select(_ => Awkward[random.Next(Awkward.Length)]));
    }

    private static string[] Words(string name, string text)
    {
        var pieces = TokenizerPreTokenizer.ByName(name)!.PreTokenize(text).ToArray();
        Assert.That(TokenizerPreTokenizer.ByName(name)!.PreTokenize(text.AsSpan()), Is.EqualTo(pieces));
        return Array.ConvertAll(pieces, piece => text.Substring(piece.Offset, piece.Length));
    }

    private static string Escaped(string text) => string.Concat(text.Select(character => $"\\u{(int)character:X4}"));

    [GeneratedRegex(@"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", RegexOptions.CultureInvariant)]
    private static partial Regex Pattern();

    [GeneratedRegex(@"(\p{N})")]
    private static partial Regex Number();
}
