using System.Text;
using KCacheNative.Sampling;

namespace KCacheNative.Tests.Sampling;

/// <summary>Stop strings are found wherever the pieces are cut, and nothing of them is ever shown.</summary>
public sealed class StopStringsTests
{
    [TestCase("Hello STOP world", "STOP", "Hello ", "STOP")]
    [TestCase("no such thing", "STOP", "no such thing", null)]
    [TestCase("ends in STO", "STOP", "ends in STO", null)]
    [TestCase("STOP", "STOP", "", "STOP")]
    [TestCase("SSTOP", "STOP", "S", "STOP")]
    [TestCase("aaab", "aab", "a", "aab")]
    [TestCase("ababac", "abac", "ab", "abac")]
    [TestCase("abcabcabd.", "abcabd", "abc", "abcabd")]
    [TestCase("one\n\ntwo", "\n\n", "one", "\n\n")]
    [TestCase("one\ntwo\n", "\n\n", "one\ntwo\n", null)]
    [TestCase("the END of", "END|the END", "", "the END")]
    [TestCase("xabcd", "bc|abcd", "xa", "bc")]
    [TestCase("the e", "END|e", "th", "e")]
    [TestCase("🦊🦋!", "🦋", "🦊", "🦋")]
    [TestCase("🦊🦋!", "🦊🦊", "🦊🦋!", null)]
    [TestCase("abcdef", "", "abcdef", null)]
    public void TheSameHoweverThePiecesAreCut(string text, string stopsText, string shown, string? found)
    {
        string[] stops = stopsText.Split('|', StringSplitOptions.RemoveEmptyEntries);
        for (int size = 1; size <= text.Length; size++)
        {
            var watcher = new StopStrings(stops);
            var result = new StringBuilder();
            for (int at = 0; at < text.Length; at += size)
                result.Append(watcher.Append(text.AsSpan(at, Math.Min(size, text.Length - at))));
            Assert.That(watcher.Found, Is.EqualTo(found), $"pieces of {size}");
            Assert.That(result.Append(watcher.Flush()).ToString(), Is.EqualTo(shown), $"pieces of {size}");
        }
    }

    [Test]
    public void OnlyAPossibleBeginningIsWithheld()
    {
        var watcher = new StopStrings(["STOP"]);
        Assert.That(watcher.Append("abc"), Is.EqualTo("abc"));
        Assert.That(watcher.Append("dST"), Is.EqualTo("d"));
        Assert.That(watcher.Append("O"), Is.Empty);
        Assert.That(watcher.Append("ST"), Is.EqualTo("STO"));
        Assert.That(watcher.Append("OP more"), Is.Empty);
        Assert.That(watcher.Found, Is.EqualTo("STOP"));
        Assert.That(watcher.Append("and more"), Is.Empty);
    }

    [Test]
    public void RandomTextsAgreeWithASearchOverTheWhole()
    {
        var random = new Random(1);
        string Letters(int length) => string.Concat(Enumerable.Range(0, length).Select(_ => (char)('a' + random.Next(2))));
        for (int round = 0; round < 2000; round++)
        {
            string text = Letters(random.Next(30));
            string[] stops = Enumerable.Range(0, random.Next(1, 4)).Select(_ => Letters(random.Next(1, 6))).ToArray();

            // The plain definition: the match that ends first, and of those the longest.
            var matches = from stop in stops
                          from at in Enumerable.Range(0, text.Length)
                          where text.AsSpan(at).StartsWith(stop)
                          orderby at + stop.Length, stop.Length descending
                          select ((string Stop, int At)?)(stop, at);
            var first = matches.FirstOrDefault();
            var watcher = new StopStrings(stops);
            var shown = new StringBuilder();
            for (int at = 0; at < text.Length;)
            {
                int size = Math.Min(random.Next(1, 5), text.Length - at);
                shown.Append(watcher.Append(text.AsSpan(at, size)));
                at += size;
                string safe = first is { } match ? text[..match.At] : text;
                Assert.That(safe, Does.StartWith(shown.ToString()), "shown before it is decided");
            }

            Assert.That(watcher.Found, Is.EqualTo(first?.Stop), $"'{text}' for {string.Join('|', stops)}");
            Assert.That(shown.Append(watcher.Flush()).ToString(), Is.EqualTo(first is { } found ? text[..found.At] : text));
        }
    }

    [Test]
    public void FlushAndResetBeginAnew()
    {
        var watcher = new StopStrings(["abc"]);
        Assert.That(watcher.Append("xab"), Is.EqualTo("x"));
        Assert.That(watcher.Flush(), Is.EqualTo("ab"));
        Assert.That(watcher.Append("c"), Is.EqualTo("c"));
        Assert.That(watcher.Append("abc"), Is.Empty);
        Assert.That(watcher.Flush(), Is.Empty);
        Assert.That(watcher.Found, Is.EqualTo("abc"), "the reason stays known");
        watcher.Reset();
        Assert.That(watcher.Found, Is.Null);
        Assert.That(watcher.Append("d"), Is.EqualTo("d"));
    }

    [Test]
    public void EmptyStringsAreRefused() => Assert.That(
        () => new StopStrings(["a", ""]), Throws.ArgumentException.With.Message.Contains("Stop string 1 is empty"));
}
