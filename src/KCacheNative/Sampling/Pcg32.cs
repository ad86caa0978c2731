namespace KCacheNative.Sampling;

/// <summary>
/// The generator PCG-XSH-RR 64/32: a linear congruential state of 64 bits, output permuted to 32. Own code, so that a seed gives the same
/// numbers on every platform and version of .NET.
/// </summary>
/// <remarks>Source: M. E. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms", 2014.</remarks>
internal struct Pcg32
{
    private const ulong Multiplier = 6364136223846793005;

    private readonly ulong _increment;
    private ulong _state;

    /// <summary>Starts a sequence.</summary>
    /// <param name="seed">Where in the sequence to start.</param>
    /// <param name="sequence">Which of 2^63 sequences.</param>
    internal Pcg32(ulong seed, ulong sequence)
    {
        _increment = (sequence << 1) | 1;
        _state = 0;
        NextUInt32();
        _state += seed;
        NextUInt32();
    }

    /// <summary>32 uniform bits.</summary>
    internal uint NextUInt32()
    {
        ulong old = _state;
        _state = unchecked((old * Multiplier) + _increment);
        uint shifted = (uint)(((old >> 18) ^ old) >> 27);
        return uint.RotateRight(shifted, (int)(old >> 59));
    }

    /// <summary>A uniform multiple of 2^-53 from 0 to below 1.</summary>
    internal double NextDouble()
    {
        ulong high = NextUInt32();
        return (((high << 32) | NextUInt32()) >> 11) * (1.0 / (1ul << 53));
    }
}
