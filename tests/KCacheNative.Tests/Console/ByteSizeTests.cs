using KCacheNative.Console.Options;

namespace KCacheNative.Tests.Console;

public class ByteSizeTests
{
    [TestCase("1", 1)]
    [TestCase("1000000", 1_000_000)]
    [TestCase("64k", 64 << 10)]
    [TestCase("1KiB", 1 << 10)]
    [TestCase("512MiB", 512 << 20)]
    [TestCase("512 mib", 512 << 20)]
    [TestCase("512MB", 512_000_000)]
    [TestCase("1.5GiB", 3L << 29)]
    [TestCase("2G", 2L << 30)]
    [TestCase("8TiB", 8L << 40)]
    [TestCase("17b", 17)]
    public void SizesAreRead(string text, long bytes)
    {
        Assert.That(ByteSize.TryParse(text, out long read), Is.True);
        Assert.That(read, Is.EqualTo(bytes));
    }

    [TestCase("")]
    [TestCase("MiB")]
    [TestCase("0")]
    [TestCase("-1")]
    [TestCase("1e9")]
    [TestCase("1,5GiB")]
    [TestCase("512 XiB")]
    [TestCase("9223372036854775808")]
    [TestCase("8388608TiB")]
    [TestCase("0.1")]
    [TestCase("NaN")]
    public void WhatIsNoSizeIsRefused(string text) => Assert.That(ByteSize.TryParse(text, out _), Is.False);

    [TestCase(0, ExpectedResult = "0 B")]
    [TestCase(1023, ExpectedResult = "1023 B")]
    [TestCase(1024, ExpectedResult = "1.00 KiB")]
    [TestCase(34.5 * (1 << 20), ExpectedResult = "34.5 MiB")]
    [TestCase(512.0 * (1 << 20), ExpectedResult = "512 MiB")]
    [TestCase(3.25 * (1L << 40), ExpectedResult = "3.25 TiB")]
    public string SizesAreWrittenForPeople(double bytes) => ByteSize.Format(bytes);
}
