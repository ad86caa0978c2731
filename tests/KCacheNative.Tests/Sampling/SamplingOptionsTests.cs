using KCacheNative.Sampling;

namespace KCacheNative.Tests.Sampling;

/// <summary>Every value outside its range is refused by name and value; every value within is taken.</summary>
public sealed class SamplingOptionsTests
{
    private static IEnumerable<TestCaseData> Wrong()
    {
        yield return Case(new() { Temperature = -0.5f }, "Temperature", "-0.5");
        yield return Case(new() { Temperature = float.NaN }, "Temperature", "NaN");
        yield return Case(new() { Temperature = float.PositiveInfinity }, "Temperature", "Infinity");
        yield return Case(new() { TopK = -1 }, "TopK", "-1");
        yield return Case(new() { TopP = 0 }, "TopP", "0");
        yield return Case(new() { TopP = 1.01f }, "TopP", "1.01");
        yield return Case(new() { TopP = float.NaN }, "TopP", "NaN");
        yield return Case(new() { MinP = -0.1f }, "MinP", "-0.1");
        yield return Case(new() { MinP = 2 }, "MinP", "2");
        yield return Case(new() { RepetitionPenalty = 0 }, "RepetitionPenalty", "0");
        yield return Case(new() { RepetitionPenalty = float.NaN }, "RepetitionPenalty", "NaN");
        yield return Case(new() { FrequencyPenalty = float.NegativeInfinity }, "FrequencyPenalty", "-Infinity");
        yield return Case(new() { PresencePenalty = float.NaN }, "PresencePenalty", "NaN");
        yield return Case(new() { PenaltyWindow = -3 }, "PenaltyWindow", "-3");
        yield return Case(new() { PenaltyWindow = int.MaxValue }, "PenaltyWindow", "2147483647");
        yield return Case(new() { LogitBias = new Dictionary<int, float> { [10] = 1 } }, "LogitBias", "10");
        yield return Case(new() { LogitBias = new Dictionary<int, float> { [-1] = 1 } }, "LogitBias", "-1");
        yield return Case(new() { LogitBias = new Dictionary<int, float> { [3] = float.NaN } }, "LogitBias", "NaN");
        yield return Case(new() { LogitBias = new Dictionary<int, float> { [3] = float.PositiveInfinity } }, "LogitBias", "Infinity");
    }

    [TestCaseSource(nameof(Wrong))]
    public void ValuesOutOfRange(SamplingOptions options, string name, string value)
    {
        var error = Assert.Catch<ArgumentException>(() => new SamplerChain(options, 10));
        Assert.That(error!.ParamName, Is.EqualTo(name));
        Assert.That(error.Message, Does.Contain($"{name} is {value}, expected"));
    }

    [Test]
    public void ValuesInRange() => Assert.That(
        () => new SamplingOptions
        {
            Temperature = 5,
            TopK = 1000,
            TopP = float.Epsilon,
            MinP = 1,
            RepetitionPenalty = 0.5f,
            FrequencyPenalty = -2,
            PresencePenalty = -2,
            PenaltyWindow = SamplingOptions.MaxPenaltyWindow,
            LogitBias = new Dictionary<int, float> { [0] = float.NegativeInfinity, [9] = 100 },
        }.Validate(10),
        Throws.Nothing);

    private static TestCaseData Case(SamplingOptions options, string name, string value) =>
        new TestCaseData(options, name, value).SetArgDisplayNames(name, value);
}
