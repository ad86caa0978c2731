using KCacheNative.Runtime;

namespace KCacheNative.Engine;

/// <summary>A generation that ended, and what it cost.</summary>
public sealed record GenerationResult
{
    /// <summary>Why it ended.</summary>
    public required FinishReason FinishReason { get; init; }

    /// <summary>The stop string that ended it; null if none did.</summary>
    public string? StopString { get; init; }

    /// <summary>The text, without control tokens and without the stop string.</summary>
    public required string Text { get; init; }

    /// <summary>The tokens, the end token included.</summary>
    public required IReadOnlyList<int> Ids { get; init; }

    /// <summary>Tokens that were run as the prompt: those that the sequence did not hold yet.</summary>
    public required int PromptTokens { get; init; }

    /// <summary>Time of the prompt.</summary>
    public required TimeSpan PromptTime { get; init; }

    /// <summary>Decode steps: the first token comes out of the prompt.</summary>
    public required int DecodeTokens { get; init; }

    /// <summary>Time of the decode steps, sampling included.</summary>
    public required TimeSpan DecodeTime { get; init; }

    /// <summary>What the decode steps read.</summary>
    public required StepStatistics Steps { get; init; }

    /// <summary>Bytes of the cache per home.</summary>
    public required CacheMemory Cache { get; init; }

    /// <summary>Prompt tokens per second; 0 if there were none.</summary>
    public double PromptTokensPerSecond => Rate(PromptTokens, PromptTime);

    /// <summary>Decode steps per second; 0 if there were none.</summary>
    public double DecodeTokensPerSecond => Rate(DecodeTokens, DecodeTime);

    private static double Rate(int tokens, TimeSpan time) => time > TimeSpan.Zero ? tokens / time.TotalSeconds : 0;
}
