namespace KCacheNative.Engine;

/// <summary>Why a generation ended.</summary>
public enum FinishReason
{
    /// <summary>It has not ended.</summary>
    None,

    /// <summary>The model ended its text or turn, or a stop string appeared.</summary>
    Stop,

    /// <summary>The most tokens that were asked for, or a full context.</summary>
    Length,

    /// <summary>It was cancelled; the session is as it was before.</summary>
    Cancelled,
}
