using System.Collections.Frozen;

namespace KCacheNative.Sampling;

/// <summary>
/// How the next token is chosen. Every default is neutral: without any setting the token of the largest logit is taken. The steps run
/// in the order of the properties.
/// </summary>
public sealed record SamplingOptions
{
    /// <summary>The longest <see cref="PenaltyWindow"/>.</summary>
    public const int MaxPenaltyWindow = 1 << 20;

    /// <summary>Added to the logits of these tokens; negative infinity forbids a token.</summary>
    public IReadOnlyDictionary<int, float> LogitBias { get; init; } = FrozenDictionary<int, float>.Empty;

    /// <summary>How many of the latest tokens the penalties look at; 0 switches them off.</summary>
    public int PenaltyWindow { get; init; } = 64;

    /// <summary>Positive logits of tokens in the window are divided by it, negative ones multiplied; 1 is neutral.</summary>
    public float RepetitionPenalty { get; init; } = 1;

    /// <summary>Subtracted from a token's logit for each time it occurs in the window; 0 is neutral.</summary>
    public float FrequencyPenalty { get; init; }

    /// <summary>Subtracted once from the logit of a token that occurs in the window; 0 is neutral.</summary>
    public float PresencePenalty { get; init; }

    /// <summary>Only so many tokens of the largest logits stay; 0 is neutral.</summary>
    public int TopK { get; init; }

    /// <summary>Only the fewest likeliest tokens stay whose probabilities, among those left so far, reach this sum; 1 is neutral.</summary>
    public float TopP { get; init; } = 1;

    /// <summary>Only tokens at least this many times as likely as the likeliest stay; 0 is neutral.</summary>
    public float MinP { get; init; }

    /// <summary>Logits are divided by it before one of the tokens left is drawn; 0 takes the largest, of equals the lowest id.</summary>
    public float Temperature { get; init; }

    /// <summary>Where the random numbers start; without it each sampler starts somewhere else.</summary>
    public ulong? Seed { get; init; }

    /// <summary>Checks every value.</summary>
    /// <param name="vocabularySize">How many tokens the model knows.</param>
    /// <exception cref="ArgumentException">A value is out of its range; the message names the property and the value.</exception>
    public void Validate(int vocabularySize)
    {
        foreach (var (token, bias) in LogitBias)
        {
            if (token < 0 || token >= vocabularySize)
                throw Invalid(nameof(LogitBias), token, $"a token id from 0 to {vocabularySize - 1}");
            if (float.IsNaN(bias) || float.IsPositiveInfinity(bias))
                throw Invalid(nameof(LogitBias), bias, $"a finite number or negative infinity, for token {token}");
        }

        Check(nameof(PenaltyWindow), PenaltyWindow, PenaltyWindow is >= 0 and <= MaxPenaltyWindow, $"0 to {MaxPenaltyWindow}");
        Check(nameof(RepetitionPenalty), RepetitionPenalty, float.IsFinite(RepetitionPenalty) && RepetitionPenalty > 0, "a number above 0");
        Check(nameof(FrequencyPenalty), FrequencyPenalty, float.IsFinite(FrequencyPenalty), "a finite number");
        Check(nameof(PresencePenalty), PresencePenalty, float.IsFinite(PresencePenalty), "a finite number");
        Check(nameof(TopK), TopK, TopK >= 0, "0 or a number of tokens");
        Check(nameof(TopP), TopP, TopP is > 0 and <= 1, "a number above 0 and up to 1");
        Check(nameof(MinP), MinP, MinP is >= 0 and <= 1, "a number from 0 to 1");
        Check(nameof(Temperature), Temperature, float.IsFinite(Temperature) && Temperature >= 0, "0 or a finite number above it");
    }

    private static void Check<T>(string name, T value, bool valid, string expected)
        where T : struct
    {
        if (!valid)
            throw Invalid(name, value, expected);
    }

    private static ArgumentOutOfRangeException Invalid(string name, object value, string expected) =>
        new(name, value, FormattableString.Invariant($"{name} is {value}, expected {expected}."));
}
