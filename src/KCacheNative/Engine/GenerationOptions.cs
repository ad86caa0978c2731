using KCacheNative.Sampling;

namespace KCacheNative.Engine;

/// <summary>How a text is generated.</summary>
public sealed record GenerationOptions
{
    /// <summary>Most tokens, the end token included; null: until the context is full.</summary>
    public int? MaxTokens { get; init; }

    /// <summary>How tokens are chosen; the default is greedy.</summary>
    public SamplingOptions Sampling { get; init; } = new();

    /// <summary>Texts that end the generation; they are not part of the result.</summary>
    public IReadOnlyList<string> StopStrings { get; init; } = [];

    /// <summary>Whether to go on behind tokens that end a text or a turn.</summary>
    public bool IgnoreEndOfGeneration { get; init; }

    /// <summary>Whether control tokens spelled out in the prompt become those tokens. Leave it false for what users write.</summary>
    public bool RecognizeControl { get; init; }

    /// <summary>Told about the prompt, per window and per layer, on the computing thread.</summary>
    public IProgress<PromptProgress>? Progress { get; init; }

    internal void Check()
    {
        if (MaxTokens is { } most)
            ArgumentOutOfRangeException.ThrowIfNegative(most, nameof(MaxTokens));
    }
}

/// <summary>What one token adds to a generated text.</summary>
/// <param name="Text">The text that the token completes; empty while a character or a stop string is unfinished.</param>
/// <param name="TokenId">The token.</param>
public readonly record struct GeneratedPiece(string Text, int TokenId);
