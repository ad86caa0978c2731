namespace KCacheNative.Console.Evaluation;

/// <summary>Logits of full attention for a number of steps, kept until the policy's are compared with them.</summary>
internal sealed class ReferenceRows
{
    private const long MostBytes = 2L << 30;

    private readonly float[][] _logits;
    private readonly double[] _logSumExps;

    /// <param name="steps">Steps to make room for.</param>
    /// <param name="vocabulary">Logits of a step.</param>
    /// <exception cref="UsageException">They would take more memory than is sensible.</exception>
    internal ReferenceRows(int steps, int vocabulary)
    {
        if ((long)steps * vocabulary * sizeof(float) > MostBytes)
            throw new UsageException(
                $"{steps} steps over a vocabulary of {vocabulary} would need more than 2 GiB for full attention's logits; give a smaller --last.");
        _logits = new float[steps][];
        for (int i = 0; i < steps; i++)
            _logits[i] = new float[vocabulary];
        _logSumExps = new double[steps];
    }

    /// <summary>Steps that there is room for.</summary>
    internal int Capacity => _logits.Length;

    internal ReadOnlySpan<float> Logits(int step) => _logits[step];

    internal double LogSumExp(int step) => _logSumExps[step];

    internal void Keep(int step, ReadOnlySpan<float> logits)
    {
        logits.CopyTo(_logits[step]);
        _logSumExps[step] = NextTokenDistribution.LogSumExp(logits);
    }
}
