using System.Text;
using KCacheNative.Formats;

namespace KCacheNative.Tests.Formats;

/// <summary>Streaming never splits a character and loses nothing.</summary>
public sealed class TokenDecoderTests
{
    private static readonly Tokenizer Bytes = TokenizerFile.Build();

    [TestCase("plain")]
    [TestCase("é日🦊\0\u0007\uFFFD")]
    [TestCase("👨‍👩‍👧 𠮷野家 \U0010FFFF")]
    public void EachCharacterComesWithItsLastByte(string text)
    {
        var decoder = Bytes.CreateDecoder();
        var pieces = Bytes.Encode(text).Select(id => decoder.Append(id).ToString()).ToArray();
        Assert.That(string.Concat(pieces), Is.EqualTo(text));
        Assert.That(pieces.Where(piece => piece.Length > 0 && (char.IsLowSurrogate(piece[0]) || char.IsHighSurrogate(piece[^1]))),
            Is.Empty);
        Assert.That(decoder.Flush().Length, Is.Zero);
    }

    [TestCase("80", "\uFFFD", "")]
    [TestCase("C3 28", "\uFFFD(", "")]
    [TestCase("E6 97", "", "\uFFFD")]
    [TestCase("F0 9F A6", "", "\uFFFD")]
    [TestCase("F0 9F 41", "\uFFFDA", "")]
    [TestCase("ED A0 80", "\uFFFD\uFFFD\uFFFD", "")]
    [TestCase("C0 80", "\uFFFD\uFFFD", "")]
    [TestCase("F5 41", "\uFFFDA", "")]
    [TestCase("41 E6 97 A5 F0 9F", "A日", "\uFFFD")]
    public void InvalidSequencesAreReplacedAndUnfinishedOnesWait(string hex, string text, string atEnd)
    {
        var decoder = Bytes.CreateDecoder();
        string streamed = string.Concat(Convert.FromHexString(hex.Replace(" ", "")).Select(value => decoder.Append(value).ToString()));
        Assert.That(streamed, Is.EqualTo(text));
        Assert.That(decoder.Flush().ToString(), Is.EqualTo(atEnd));
        Assert.That(decoder.Append((byte)'x').ToString(), Is.EqualTo("x"), "a stream after the flush");
    }

    [Test]
    public void RandomBytesGiveTheSameTextAsAtOnce()
    {
        var random = new Random(1);
        for (int round = 0; round < 500; round++)
        {
            byte[] bytes = new byte[random.Next(40)];
            random.NextBytes(bytes);
            var decoder = Bytes.CreateDecoder();
            string streamed = string.Concat(bytes.Select(value => decoder.Append(value).ToString())) + decoder.Flush().ToString();
            Assert.That(streamed, Is.EqualTo(Encoding.UTF8.GetString(bytes)), Convert.ToHexString(bytes));
        }
    }

    [Test]
    public void ControlTokensAreHiddenOrShown()
    {
        Assert.That(Bytes.TryGetId("<|end|>", out int end), Is.True);
        Assert.That(Bytes.CreateDecoder().Append(end).ToString(), Is.Empty);
        Assert.That(Bytes.CreateDecoder(showControl: true).Append(end).ToString(), Is.EqualTo("<|end|>"));
    }

    [Test]
    public void AppendingAllocatesNothing()
    {
        int[] ids = Bytes.Encode(string.Concat(Enumerable.Repeat("hi 日本 🦊 ", 200)));
        var decoder = Bytes.CreateDecoder();
        int length = 0;
        long allocated = AllocatedBytes.Least(() =>
        {
            length = 0;
            foreach (int id in ids)
                length += decoder.Append(id).Length;
        });
        Assert.That(length, Is.EqualTo("hi 日本 🦊 ".Length * 200));
        Assert.That(allocated, Is.Zero);
    }
}
