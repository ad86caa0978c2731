namespace KCacheNative.Runtime;

/// <summary>What computes.</summary>
public enum Backend
{
    /// <summary>The best that works on this machine.</summary>
    Auto = 0,

    /// <summary>The processor.</summary>
    Cpu = 1,

    /// <summary>An NVIDIA GPU.</summary>
    Cuda = 2,
}

/// <summary>How matrix products treat their input where the weights are quantised.</summary>
public enum Activations
{
    /// <summary>In 8 bits per block of 32: fast.</summary>
    Q8 = 0,

    /// <summary>As it is: slower, for fidelity.</summary>
    F32 = 1,
}

/// <summary>How a <see cref="ComputeContext"/> is set up.</summary>
public sealed record ContextOptions
{
    /// <summary>What computes.</summary>
    public Backend Backend { get; init; }

    /// <summary>The number of the device of that backend.</summary>
    public int Device { get; init; }

    /// <summary>Threads of the CPU backend, the caller included; 0: one per core that the process may use.</summary>
    public int Threads { get; init; }

    /// <summary>How matrix products treat their input where the weights are quantised.</summary>
    public Activations Activations { get; init; }
}

/// <summary>A <see cref="ComputeContext"/> as it is now.</summary>
/// <param name="Backend">The backend that was chosen.</param>
/// <param name="Threads">Threads of the CPU backend, the caller included.</param>
/// <param name="Activations">How matrix products treat their input.</param>
/// <param name="InstructionSet">scalar, avx2 or avx512.</param>
/// <param name="Device">The device's own name.</param>
/// <param name="LiveBytes">Bytes that buffers and caches hold now, fast and slow homes together.</param>
/// <param name="LiveObjects">Buffers, caches and spill files that have not been destroyed.</param>
/// <param name="Allocations">Native allocations since the context was created; a decode step makes none.</param>
public sealed record ContextInfo(
    Backend Backend,
    int Threads,
    Activations Activations,
    string InstructionSet,
    string Device,
    long LiveBytes,
    long LiveObjects,
    long Allocations);
