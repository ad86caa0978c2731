namespace KCacheNative;

/// <summary>What the native library says of a call; the numbers are those of kc_status.</summary>
public enum Status
{
    /// <summary>The call succeeded.</summary>
    Ok = 0,

    /// <summary>An argument is impossible: a shape, a pointer, a combination.</summary>
    Argument = -1,

    /// <summary>The machine has no memory left for this.</summary>
    Memory = -2,

    /// <summary>The fast budget is below the smallest that the plan allows; the message names it.</summary>
    Budget = -3,

    /// <summary>The call comes at the wrong time.</summary>
    State = -4,

    /// <summary>The slow home: missing directory, full disk, failed read.</summary>
    IO = -5,

    /// <summary>A combination, type or device that this build does not offer.</summary>
    Unsupported = -6,

    /// <summary>A sequence, a page or a token more than the cache was created for.</summary>
    Capacity = -7,

    /// <summary>A defect of the library.</summary>
    Internal = -8,
}
