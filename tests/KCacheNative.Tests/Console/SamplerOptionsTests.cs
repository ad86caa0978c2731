using System.CommandLine;
using KCacheNative.Console;
using KCacheNative.Console.Options;
using KCacheNative.Engine;

namespace KCacheNative.Tests.Console;

public class SamplerOptionsTests
{
    private const int Vocabulary = 100;

    [Test]
    public void DefaultsAreTheCommands()
    {
        var options = Read();

        Assert.That(options.MaxTokens, Is.EqualTo(12));
        Assert.That(options.Sampling.Temperature, Is.EqualTo(0.5f));
        Assert.That(options.Sampling.Seed, Is.Null);
        Assert.That(options.StopStrings, Is.Empty);
        Assert.That(() => options.Sampling.Validate(Vocabulary), Throws.Nothing);
    }

    [Test]
    public void EveryOptionReachesTheSampler()
    {
        var options = Read("-n", "3", "--temperature", "0.8", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.05", "--repeat-penalty", "1.1",
            "--frequency-penalty", "0.2", "--presence-penalty", "-0.3", "--penalty-window", "32", "--seed", "18446744073709551615", "--ignore-eos");

        Assert.That(options.MaxTokens, Is.EqualTo(3));
        Assert.That(options.IgnoreEndOfGeneration, Is.True);
        var sampling = options.Sampling;
        Assert.That(
            (sampling.Temperature, sampling.TopK, sampling.TopP, sampling.MinP, sampling.RepetitionPenalty, sampling.FrequencyPenalty),
            Is.EqualTo((0.8f, 40, 0.95f, 0.05f, 1.1f, 0.2f)));
        Assert.That((sampling.PresencePenalty, sampling.PenaltyWindow, sampling.Seed), Is.EqualTo((-0.3f, 32, (ulong?)ulong.MaxValue)));
    }

    [Test]
    public void StopTextsMayHoldLineEnds() =>
        Assert.That(Read("--stop", @"a\nb", "--stop", @"\t\\n", "--stop", @"\x\").StopStrings, Is.EqualTo(new[] { "a\nb", "\t\\n", @"\x\" }));

    [Test]
    public void TheLastBiasOfATokenHolds()
    {
        var bias = Read("--logit-bias", "4=1.5", "--logit-bias", "7=-inf", "--logit-bias", "4=-2").Sampling.LogitBias;

        Assert.That(bias, Is.EquivalentTo(new Dictionary<int, float> { [4] = -2, [7] = float.NegativeInfinity }));
    }

    [TestCase("4")]
    [TestCase("x=1")]
    [TestCase("-4=1")]
    [TestCase("4=NaN")]
    [TestCase("4=inf")]
    [TestCase("100=1")]
    public void AWrongBiasIsRefused(string bias) =>
        Assert.That(() => Read("--logit-bias", bias), Throws.TypeOf<UsageException>().With.Message.Contains(bias));

    [Test]
    public void AnEmptyStopTextIsRefused() => Assert.That(() => Read("--stop", ""), Throws.TypeOf<UsageException>());

    private static GenerationOptions Read(params string[] args)
    {
        var options = new SamplerOptions(defaultTokens: 12, defaultTemperature: 0.5f);
        var command = new Command("test");
        options.AddTo(command);
        var call = command.Parse(args);
        Assert.That(call.Errors, Is.Empty);
        return options.Read(call, Vocabulary);
    }
}
