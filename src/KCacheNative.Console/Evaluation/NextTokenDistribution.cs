namespace KCacheNative.Console.Evaluation;

/// <summary>Softmax over the logits of one step, compared in double precision over the whole vocabulary.</summary>
internal static class NextTokenDistribution
{
    /// <summary>log(sum(exp(logits))), with the largest logit taken out first.</summary>
    /// <param name="logits">[vocab].</param>
    internal static double LogSumExp(ReadOnlySpan<float> logits)
    {
        double largest = double.NegativeInfinity;
        foreach (float logit in logits)
            largest = Math.Max(largest, logit);
        double sum = 0;
        foreach (float logit in logits)
            sum += Math.Exp(logit - largest);
        return largest + Math.Log(sum);
    }

    /// <summary>The negative log likelihood of one token, in nats.</summary>
    /// <param name="logits">[vocab].</param>
    /// <param name="logSumExp">Of these logits.</param>
    /// <param name="token">The token that came next.</param>
    internal static double NegativeLogLikelihood(ReadOnlySpan<float> logits, double logSumExp, int token) => logSumExp - logits[token];

    /// <summary>Kullback-Leibler divergence KL(p || q) in nats of two softmax distributions, at least 0.</summary>
    /// <param name="p">[vocab] logits of the reference.</param>
    /// <param name="pLogSumExp">Of p.</param>
    /// <param name="q">[vocab] logits of what is compared with it.</param>
    /// <param name="qLogSumExp">Of q.</param>
    internal static double KullbackLeibler(ReadOnlySpan<float> p, double pLogSumExp, ReadOnlySpan<float> q, double qLogSumExp)
    {
        double sum = 0;
        for (int i = 0; i < p.Length; i++)
        {
            double logP = p[i] - pLogSumExp;
            double weight = Math.Exp(logP);
            if (weight > 0) // a token of no weight adds nothing, also where its logit is minus infinity
                sum += weight * (logP - (q[i] - qLogSumExp));
        }

        return Math.Max(0, sum); // rounding alone can go below
    }

    /// <summary>The index of the largest logit; the lower index wins a tie.</summary>
    internal static int ArgMax(ReadOnlySpan<float> logits)
    {
        int best = 0;
        for (int i = 1; i < logits.Length; i++)
        {
            if (logits[i] > logits[best])
                best = i;
        }

        return best;
    }
}
