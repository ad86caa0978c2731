using KCacheNative.Console.Evaluation;

namespace KCacheNative.Tests.Console;

public class NextTokenDistributionTests
{
    private static readonly float[] P = [MathF.Log(0.5f), MathF.Log(0.25f), MathF.Log(0.25f)];
    private static readonly float[] Q = [MathF.Log(0.25f), MathF.Log(0.25f), MathF.Log(0.5f)];

    [Test]
    public void DivergenceIsThatOfTheDefinition()
    {
        // 0.5 ln 2 + 0 + 0.25 ln 0.5
        double expected = 0.25 * Math.Log(2);

        Assert.That(Divergence(P, Q), Is.EqualTo(expected).Within(1e-6));
    }

    [Test]
    public void AShiftOfTheLogitsChangesNothing()
    {
        float[] shifted = Array.ConvertAll(Q, x => x + 80);

        Assert.That(Divergence(P, shifted), Is.EqualTo(Divergence(P, Q)).Within(1e-5));
    }

    [Test]
    public void EqualDistributionsDivergeByZero() => Assert.That(Divergence(P, P), Is.Zero);

    [Test]
    public void LargeLogitsDoNotOverflow()
    {
        float[] large = [3e38f, 0, -3e38f];

        Assert.That(NextTokenDistribution.LogSumExp(large), Is.EqualTo(3e38f));
        Assert.That(Divergence(large, large), Is.Zero);
    }

    [Test]
    public void ATokenOfNoWeightAddsNothing()
    {
        float[] p = [0, float.NegativeInfinity], q = [0, 0];

        Assert.That(Divergence(p, q), Is.EqualTo(Math.Log(2)).Within(1e-12));
    }

    [Test]
    public void LikelihoodIsOfTheTarget()
    {
        double nll = NextTokenDistribution.NegativeLogLikelihood(P, NextTokenDistribution.LogSumExp(P), 1);

        Assert.That(nll, Is.EqualTo(Math.Log(4)).Within(1e-6));
    }

    [Test]
    public void TheLowerOfEqualLogitsIsPreferred() =>
        Assert.That(NextTokenDistribution.ArgMax([1, 5, 5, 2]), Is.EqualTo(1));

    private static double Divergence(float[] p, float[] q) =>
        NextTokenDistribution.KullbackLeibler(p, NextTokenDistribution.LogSumExp(p), q, NextTokenDistribution.LogSumExp(q));
}
