using KCacheNative.Sampling;

namespace KCacheNative.Tests.Sampling;

/// <summary>The generator gives the published numbers, and uniform ones.</summary>
public sealed class Pcg32Tests
{
    [Test]
    public void GivesTheNumbersOfTheReferenceProgram()
    {
        // The first outputs of pcg32-demo of pcg-c-basic, seed 42, sequence 54.
        var random = new Pcg32(42, 54);
        uint[] expected = [0xa15c02b7, 0x7b47f409, 0xba1d3330, 0x83d2f293, 0xbfa4784b, 0xcbed606e];
        Assert.That(expected.Select(_ => random.NextUInt32()), Is.EqualTo(expected));
    }

    [Test]
    public void DoublesAreUniform()
    {
        var random = new Pcg32(7, 54);
        const int draws = 100_000;
        var bins = new int[16];
        for (int i = 0; i < draws; i++)
        {
            double value = random.NextDouble();
            Assert.That(value, Is.InRange(0.0, Math.BitDecrement(1.0)));
            bins[(int)(value * bins.Length)]++;
        }

        double expected = (double)draws / bins.Length;
        Assert.That(bins.Sum(count => (count - expected) * (count - expected) / expected), Is.LessThan(45),
            "chi-squared, 15 degrees of freedom");
    }

    [Test]
    public void SeedsAndSequencesDiffer()
    {
        var streams = new[] { new Pcg32(1, 54), new Pcg32(2, 54), new Pcg32(1, 55) }
            .Select(random => string.Join(',', Enumerable.Range(0, 8).Select(_ => random.NextUInt32()))).ToArray();
        Assert.That(streams, Is.Unique);
    }
}
