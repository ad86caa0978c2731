using KCacheNative.Sampling;

namespace KCacheNative.Tests.Sampling;

/// <summary>
/// The sampler against a plain reference in double precision: the tokens that may be chosen are exactly those of the reference, and
/// are drawn as often as it says.
/// </summary>
public sealed class SamplerChainTests
{
    private static readonly float[] Logits = [1.0f, -2.0f, 3.0f, 0.5f, 2.5f, 3.0f, -1.0f, 0.0f];

    [Test]
    public void WithoutSettingsTheLargestLogitIsTaken() =>
        Assert.That(new SamplerChain(new(), 8).Sample([0, 3, 1, 5, 2, 4, -1, 0]), Is.EqualTo(3));

    [Test]
    public void OfEqualsTheLowestIdIsTaken()
    {
        Assert.That(new SamplerChain(new(), 8).Sample(Logits), Is.EqualTo(2));
        Assert.That(new SamplerChain(new(), 2).Sample([-0f, 0f]), Is.Zero);
        Assert.That(new SamplerChain(new() { Temperature = 1, TopK = 1 }, 8).Sample(Logits), Is.EqualTo(2));
        Assert.That(new SamplerChain(new() { Temperature = 1, TopK = 1 }, 2).Sample([-0f, 0f]), Is.Zero);
        Assert.That(new SamplerChain(new() { Temperature = 1, TopP = 0.01f }, 8).Sample(Logits), Is.EqualTo(2));
    }

    private static IEnumerable<TestCaseData> Settings()
    {
        yield return Case("temperature 1", new() { Temperature = 1 });
        yield return Case("temperature 0.5", new() { Temperature = 0.5f });
        yield return Case("temperature 3", new() { Temperature = 3 });
        yield return Case("top-k", new() { Temperature = 1, TopK = 3 });
        yield return Case("top-k of all", new() { Temperature = 1, TopK = 8 });
        yield return Case("top-p", new() { Temperature = 1, TopP = 0.8f });
        yield return Case("top-p high", new() { Temperature = 2, TopP = 0.99f });
        yield return Case("min-p", new() { Temperature = 1, MinP = 0.1f });
        yield return Case("min-p 1", new() { Temperature = 1, MinP = 1 });
        yield return Case("all three", new() { Temperature = 1.5f, TopK = 6, TopP = 0.95f, MinP = 0.05f });
        yield return Case("repetition", new() { Temperature = 1, RepetitionPenalty = 1.5f });
        yield return Case("frequency", new() { Temperature = 1, FrequencyPenalty = 0.7f });
        yield return Case("presence", new() { Temperature = 1, PresencePenalty = 1.2f });
        yield return Case("all penalties",
            new() { Temperature = 1, RepetitionPenalty = 1.2f, FrequencyPenalty = 0.3f, PresencePenalty = 0.4f });
        yield return Case("short window", new() { Temperature = 1, FrequencyPenalty = 1, PenaltyWindow = 2 });
        yield return Case("no window", new() { Temperature = 1, FrequencyPenalty = 1, PenaltyWindow = 0 });
        yield return Case("bias", new()
        {
            Temperature = 1,
            LogitBias = new Dictionary<int, float> { [1] = 4, [2] = -1, [5] = float.NegativeInfinity },
        });
        yield return Case("everything", new()
        {
            Temperature = 0.9f,
            TopK = 5,
            TopP = 0.9f,
            MinP = 0.02f,
            RepetitionPenalty = 1.1f,
            FrequencyPenalty = 0.2f,
            PresencePenalty = 0.1f,
            PenaltyWindow = 4,
            LogitBias = new Dictionary<int, float> { [3] = 2 },
        });
    }

    [TestCaseSource(nameof(Settings))]
    public void DrawsAreThoseOfTheReference(SamplingOptions options)
    {
        const int draws = 40_000;
        int[] accepted = [2, 2, 4, 0, 2, 1, 1];
        var sampler = new SamplerChain(options with { Seed = 11 }, Logits.Length);
        sampler.Accept(accepted);
        double[] expected = Reference(Logits, options, accepted);
        var counts = new int[Logits.Length];
        for (int i = 0; i < draws; i++)
            counts[sampler.Sample(Logits)]++;

        // Tokens too rare for the statistic count together; those that may not be chosen must not be.
        double chiSquared = 0, rare = 0, rareExpected = 0;
        for (int token = 0; token < counts.Length; token++)
        {
            double expectedCount = draws * expected[token];
            if (expectedCount == 0)
                Assert.That(counts[token], Is.Zero, $"token {token}");
            if (expectedCount >= 20)
                chiSquared += Math.Pow(counts[token] - expectedCount, 2) / expectedCount;
            else
                (rare, rareExpected) = (rare + counts[token], rareExpected + expectedCount);
        }

        Assert.That(rare, Is.EqualTo(rareExpected).Within(20));
        Assert.That(chiSquared, Is.LessThan(30), "7 degrees of freedom at most: exceeded by chance once in 10,000");
    }

    [Test]
    public void LargeVocabulariesKeepTheSameTokensAsTheReference([Values(1, 17, 64, 65, 1000, 4999, 5000)] int topK, [Values] bool ties)
    {
        const int vocabulary = 5000;
        var random = new Random(topK);
        float[] logits = Enumerable.Range(0, vocabulary).Select(_ => (float)(ties ? random.Next(40) : random.NextDouble() * 10)).ToArray();
        var kept = new CandidateList(vocabulary);
        kept.Fill(logits);
        kept.KeepLargest(topK);
        var expected = Enumerable.Range(0, vocabulary).OrderByDescending(token => logits[token]).ThenBy(token => token).Take(topK)
            .ToArray();
        int[] actual = Enumerable.Range(0, kept.Count).Select(i => kept[i]).ToArray();
        if (topK < vocabulary)
            Assert.That(actual, Is.EqualTo(expected));
        else
            Assert.That(actual, Is.EqualTo(Enumerable.Range(0, vocabulary)), "nothing to do");
    }

    [Test]
    public void TopPOverALargeVocabularyKeepsTheFewestThatReachTheSum([Values(0.001f, 0.3f, 0.9f, 0.999f)] float sum)
    {
        const int vocabulary = 5000;
        var random = new Random(3);
        float[] logits = Enumerable.Range(0, vocabulary).Select(_ => (float)(random.NextDouble() * 8)).ToArray();
        var kept = new CandidateList(vocabulary);
        kept.Fill(logits);
        kept.KeepProbable(logits, logits.Max(), sum);
        double total = logits.Sum(logit => Math.Exp(logit));
        var sorted = Enumerable.Range(0, vocabulary).OrderByDescending(token => logits[token]).ThenBy(token => token).ToArray();
        double Reached(int n) => sorted.Take(n).Sum(token => Math.Exp(logits[token])) / total;
        Assert.That(Enumerable.Range(0, kept.Count).Select(i => kept[i]), Is.EqualTo(sorted.Take(kept.Count)));
        Assert.That(Reached(kept.Count), Is.GreaterThanOrEqualTo(sum - 1e-9));
        Assert.That(Reached(kept.Count - 1), Is.LessThan(sum + 1e-9));
    }

    [TestCase("ascending")]
    [TestCase("descending")]
    [TestCase("organ pipe")]
    [TestCase("constant")]
    [TestCase("two values")]
    public void AwkwardOrdersAreSelectedRightAndFast(string order)
    {
        const int vocabulary = 200_000;
        float[] logits = Enumerable.Range(0, vocabulary).Select(token => (float)(order switch
        {
            "ascending" => token,
            "descending" => -token,
            "organ pipe" => Math.Min(token, vocabulary - token),
            "constant" => 1,
            _ => token % 2,
        })).ToArray();
        var kept = new CandidateList(vocabulary);
        kept.Fill(logits);
        kept.KeepLargest(100);
        Assert.That(Enumerable.Range(0, kept.Count).Select(i => kept[i]),
            Is.EqualTo(Enumerable.Range(0, vocabulary).OrderByDescending(token => logits[token]).ThenBy(token => token).Take(100)));
    }

    [Test]
    public void ASeedGivesTheSameTokensAndResetStartsOver()
    {
        var options = new SamplingOptions { Temperature = 1, Seed = 5, FrequencyPenalty = 0.5f };
        int[] Draw(SamplerChain sampler) => Enumerable.Range(0, 50).Select(_ =>
        {
            int token = sampler.Sample(Logits);
            sampler.Accept(token);
            return token;
        }).ToArray();
        var sampler = new SamplerChain(options, 8);
        int[] first = Draw(sampler);
        Assert.That(Draw(sampler), Is.Not.EqualTo(first));
        sampler.Reset();
        Assert.That(Draw(sampler), Is.EqualTo(first));
        Assert.That(Draw(new SamplerChain(options, 8)), Is.EqualTo(first));
        Assert.That(Draw(new SamplerChain(options with { Seed = 6 }, 8)), Is.Not.EqualTo(first));
        Assert.That(sampler.Seed, Is.EqualTo(5));
        var unseeded = new SamplerChain(options with { Seed = null }, 8);
        Assert.That(Draw(new SamplerChain(options with { Seed = unseeded.Seed }, 8)), Is.EqualTo(Draw(unseeded)));
    }

    [Test]
    public void ADrawWalksTheProbabilitiesInTheOrderOfIds()
    {
        var sampler = new SamplerChain(new() { Temperature = 1, Seed = 42 }, Logits.Length);
        int[] tokens = Enumerable.Range(0, 16).Select(_ => sampler.Sample(Logits)).ToArray();
        double[] probabilities = Reference(Logits, new() { Temperature = 1 }, []);
        var random = new Pcg32(42, 54);
        var expected = tokens.Select(_ =>
        {
            double left = random.NextDouble();
            int token = 0;
            while (left >= probabilities[token])
                left -= probabilities[token++];
            return token;
        });
        Assert.That(tokens, Is.EqualTo(expected));
    }

    [Test]
    public void GreedyPenaltiesAndBiasChangeTheChoice()
    {
        var bias = new Dictionary<int, float> { [2] = float.NegativeInfinity };
        var sampler = new SamplerChain(new() { PresencePenalty = 1, LogitBias = bias }, 8);
        Assert.That(sampler.Sample(Logits), Is.EqualTo(5));
        sampler.Accept(5);
        Assert.That(sampler.Sample(Logits), Is.EqualTo(4));
    }

    [Test]
    public void TheWindowForgets()
    {
        var sampler = new SamplerChain(new() { PresencePenalty = 10, PenaltyWindow = 3 }, 4);
        sampler.Accept([0, 1, 2]);
        Assert.That(sampler.Sample([9, 8, 7, 6]), Is.EqualTo(3));
        sampler.Accept(3);
        Assert.That(sampler.Sample([6, 7, 8, 9]), Is.Zero);
    }

    [Test]
    public void TheLogitsStayAsTheyAre()
    {
        float[] logits = (float[])Logits.Clone();
        var bias = new Dictionary<int, float> { [0] = 1 };
        var sampler = new SamplerChain(new() { Temperature = 1, RepetitionPenalty = 2, LogitBias = bias }, 8);
        sampler.Accept(2);
        sampler.Sample(logits);
        Assert.That(logits, Is.EqualTo(Logits));
    }

    [Test]
    public void LogitsThatAreNoNumbersAreNamed(
        [Values(float.NaN, float.PositiveInfinity)] float wrong,
        [Values(0, 3, 7)] int token,
        [Values(0f, 1f)] float temperature,
        [Values] bool penalizes)
    {
        float[] logits = (float[])Logits.Clone();
        logits[token] = wrong;
        var sampler = new SamplerChain(new() { Temperature = temperature, PresencePenalty = penalizes ? 1 : 0 }, 8);
        Assert.That(() => sampler.Sample(logits), Throws.TypeOf<KCacheException>().With.Message.Contains($"token {token} is "));
    }

    [Test]
    public void ExcludedTokensAreNeverChosen([Values(0f, 1f)] float temperature)
    {
        const float no = float.NegativeInfinity;
        var sampler = new SamplerChain(new() { Temperature = temperature, Seed = 1 }, 4);
        for (int i = 0; i < 100; i++)
            Assert.That(sampler.Sample([no, no, -5, no]), Is.EqualTo(2));
        Assert.That(() => sampler.Sample([no, no, no, no]), Throws.TypeOf<KCacheException>().With.Message.Contains("negative infinity"));
    }

    [Test]
    public void ExtremeLogitsAndTemperaturesStayFinite([Values(1e-45f, 1e-6f, 1f, 3e38f)] float temperature)
    {
        var sampler = new SamplerChain(new() { Temperature = temperature, Seed = 1, TopP = 0.999f, MinP = 1e-30f, TopK = 3 }, 4);
        float[] logits = [float.MaxValue, float.MinValue, 0, float.Epsilon];
        for (int i = 0; i < 100; i++)
            Assert.That(sampler.Sample(logits), Is.Zero);
    }

    [Test]
    public void CallsOfTheWrongShapeAreNamed()
    {
        var sampler = new SamplerChain(new(), 8);
        Assert.That(() => sampler.Sample(new float[7]), Throws.ArgumentException.With.Message.Contains("7 logits, expected 8"));
        Assert.That(() => sampler.Accept(8), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("8"));
        Assert.That(() => sampler.Accept(-1), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => new SamplerChain(new(), 0), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [TestCaseSource(nameof(Settings))]
    public void SamplingAllocatesNothing(SamplingOptions options)
    {
        const int vocabulary = 50_000;
        var random = new Random(1);
        float[] logits = Enumerable.Range(0, vocabulary).Select(_ => (float)random.NextDouble() * 20).ToArray();
        var sampler = new SamplerChain(options, vocabulary);
        Assert.That(AllocatedBytes.Least(() => sampler.Accept(sampler.Sample(logits))), Is.Zero);
    }

    /// <summary>The probabilities that the documentation of the options promises, computed as plainly as possible.</summary>
    private static double[] Reference(float[] logits, SamplingOptions options, int[] accepted)
    {
        double[] scores = Array.ConvertAll(logits, logit => (double)logit);
        foreach (var (token, bias) in options.LogitBias)
            scores[token] += bias;
        int[] window = accepted.TakeLast(options.PenaltyWindow).ToArray();
        foreach (int token in window.Distinct())
        {
            scores[token] = scores[token] > 0 ? scores[token] / options.RepetitionPenalty : scores[token] * options.RepetitionPenalty;
            scores[token] -= (window.Count(t => t == token) * (double)options.FrequencyPenalty) + options.PresencePenalty;
        }

        var left = Enumerable.Range(0, scores.Length).Where(token => !double.IsNegativeInfinity(scores[token]))
            .OrderByDescending(token => scores[token]).ThenBy(token => token).ToList();
        if (options.TopK > 0)
            left = left.Take(options.TopK).ToList();
        double sum = left.Sum(token => Math.Exp(scores[token]));
        int kept = 0;
        for (double reached = 0; kept < left.Count && reached < options.TopP; kept++)
            reached += Math.Exp(scores[left[kept]]) / sum;
        left = left.Take(kept).Where(token => Math.Exp(scores[token] - scores[left[0]]) >= options.MinP).ToList();

        var probabilities = new double[logits.Length];
        double total = left.Sum(token => Math.Exp(scores[token] / options.Temperature));
        foreach (int token in left)
            probabilities[token] = Math.Exp(scores[token] / options.Temperature) / total;
        return probabilities;
    }

    private static TestCaseData Case(string name, SamplingOptions options) => new TestCaseData(options).SetArgDisplayNames(name);
}
