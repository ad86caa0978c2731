namespace KCacheNative.Sampling;

/// <summary>
/// Chooses the next token from logits: bias, penalties, top-k, top-p, min-p, temperature, draw. The result depends on nothing
/// but options, seed, accepted tokens and logits. Allocates only when constructed. Not for concurrent use.
/// </summary>
public sealed class SamplerChain
{
    private const ulong RandomSequence = 54;

    private readonly SamplingOptions _options;
    private readonly TokenHistory _history;
    private readonly CandidateList _candidates;
    private readonly float[] _logits;
    private readonly KeyValuePair<int, float>[] _bias;
    private readonly double _minPLogit;
    private readonly bool _penalizes;
    private Pcg32 _random;

    /// <summary>Creates a sampler for one sequence.</summary>
    /// <param name="options">How to choose; checked here.</param>
    /// <param name="vocabularySize">How many logits there will be.</param>
    /// <exception cref="ArgumentException">A value is out of its range; the message names it.</exception>
    public SamplerChain(SamplingOptions options, int vocabularySize)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(vocabularySize);
        options.Validate(vocabularySize);
        _options = options;
        _penalizes = options is not { RepetitionPenalty: 1, FrequencyPenalty: 0, PresencePenalty: 0 };
        _history = new TokenHistory(_penalizes ? options.PenaltyWindow : 0, vocabularySize);
        _candidates = new CandidateList(vocabularySize);
        _logits = new float[vocabularySize];
        _bias = [.. options.LogitBias];
        _minPLogit = Math.Log(options.MinP);
        Seed = options.Seed ?? (ulong)Random.Shared.NextInt64();
        _random = new Pcg32(Seed, RandomSequence);
    }

    /// <summary>Where the random numbers started: the option's value, or the one that was picked.</summary>
    public ulong Seed { get; }

    /// <summary>Chooses a token. The logits stay as they are; the choice is not recorded until it is accepted.</summary>
    /// <param name="logits">[vocabulary]; negative infinity excludes a token.</param>
    /// <exception cref="ArgumentException">There are not as many logits as tokens.</exception>
    /// <exception cref="KCacheException">A logit is NaN or positive infinity, or all are negative infinity.</exception>
    public int Sample(ReadOnlySpan<float> logits)
    {
        if (logits.Length != _logits.Length)
            throw new ArgumentException($"There are {logits.Length} logits, expected {_logits.Length}, one per token.", nameof(logits));
        if (_bias.Length > 0 || _penalizes)
            logits = Adjust(logits);
        int best = Largest(logits);
        if (_options.Temperature == 0)
            return best;

        _candidates.Fill(logits);
        if (_options.TopK > 0)
            _candidates.KeepLargest(_options.TopK);
        if (_options.TopP < 1)
            _candidates.KeepProbable(logits, logits[best], _options.TopP);
        if (_options.MinP > 0)
            _candidates.KeepAtLeast(logits, logits[best] + _minPLogit);
        return Draw(logits, logits[best]);
    }

    /// <summary>Records a token of the sequence, of the prompt or chosen, for the penalties.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The token is not in the vocabulary.</exception>
    public void Accept(int token)
    {
        if (token < 0 || token >= _logits.Length)
            throw new ArgumentOutOfRangeException(nameof(token), token,
                $"The token id {token} is not in the vocabulary of {_logits.Length} tokens.");
        _history.Add(token);
    }

    /// <summary>Records tokens of the sequence, in order.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A token is not in the vocabulary.</exception>
    public void Accept(ReadOnlySpan<int> tokens)
    {
        foreach (int token in tokens)
            Accept(token);
    }

    /// <summary>Starts over: no accepted tokens, random numbers from <see cref="Seed"/> again.</summary>
    public void Reset()
    {
        _history.Clear();
        _random = new Pcg32(Seed, RandomSequence);
    }

    private Span<float> Adjust(ReadOnlySpan<float> logits)
    {
        logits.CopyTo(_logits);
        foreach (var (token, bias) in _bias)
            _logits[token] += bias;
        if (_penalizes)
        {
            var counts = _history.Counts;
            for (int token = 0; token < counts.Length; token++)
            {
                if (counts[token] > 0)
                    _logits[token] = Penalize(_logits[token], counts[token]);
            }
        }

        return _logits;
    }

    private float Penalize(float logit, int count)
    {
        float repeated = logit > 0 ? logit / _options.RepetitionPenalty : logit * _options.RepetitionPenalty;
        return repeated - (count * _options.FrequencyPenalty) - _options.PresencePenalty;
    }

    /// <summary>The token of the largest logit, of equals the lowest id.</summary>
    private static int Largest(ReadOnlySpan<float> logits)
    {
        int best = 0;
        for (int token = 0; token < logits.Length; token++)
        {
            // Written so that NaN enters the branch too.
            if (!(logits[token] < float.PositiveInfinity))
                throw new KCacheException(
                    $"the logit of token {token} is {logits[token]}; the model file is damaged or its numbers overflow: "
                    + "check the file, or compute with f32 activations.");
            if (logits[token] > logits[best])
                best = token;
        }

        return !float.IsNegativeInfinity(logits[best])
            ? best
            : throw new KCacheException("all logits are negative infinity, so no token can be chosen; lift a logit bias.");
    }

    private int Draw(ReadOnlySpan<float> logits, float largest)
    {
        double total = 0;
        for (int i = 0; i < _candidates.Count; i++)
            total += Weight(logits[_candidates[i]], largest);
        double left = _random.NextDouble() * total;
        int chosen = _candidates[0];
        for (int i = 0; i < _candidates.Count; i++)
        {
            double weight = Weight(logits[_candidates[i]], largest);
            if (weight == 0)
                continue;

            // Rounding may leave a little behind the last candidate, which then is the choice.
            chosen = _candidates[i];
            left -= weight;
            if (left < 0)
                break;
        }

        return chosen;
    }

    private double Weight(float logit, float largest) => Math.Exp(((double)logit - largest) / _options.Temperature);
}
