namespace KCacheNative;

/// <summary>
/// What the library throws when something it was given, or something it depends on, cannot be used. The message names the thing,
/// what is wrong with it and the way out. Arguments that a caller could have checked are <see cref="ArgumentException"/> instead.
/// </summary>
public class KCacheException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">The thing, the defect and the way out, in a sentence or two.</param>
    /// <param name="innerException">The failure beneath, if there was one.</param>
    public KCacheException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }

    /// <summary>Creates the exception for a call of the native library that failed.</summary>
    /// <param name="status">What the library returned.</param>
    /// <param name="message">The library's own sentence.</param>
    public KCacheException(Status status, string message)
        : base(message) => Status = status;

    /// <summary>What the native library returned; <see cref="Status.Ok"/> where the failure is not the native library's.</summary>
    public Status Status { get; }
}
