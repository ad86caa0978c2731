namespace KCacheNative.Console.Output;

/// <summary>What `devices --json` prints.</summary>
/// <param name="Version">Of this program.</param>
/// <param name="NativeVersion">Of the native library; absent where it cannot be loaded.</param>
/// <param name="Backends">All that are known, found or not.</param>
internal sealed record DevicesReport(string Version, string? NativeVersion, IReadOnlyList<BackendReport> Backends);

/// <summary>A backend.</summary>
/// <param name="Backend">"cpu" or "cuda".</param>
/// <param name="Found">Whether it can be used.</param>
/// <param name="Threads">Worker threads it would use.</param>
/// <param name="Devices">Its devices that work, by number.</param>
/// <param name="Problem">Why it, or one of its devices, cannot be used.</param>
internal sealed record BackendReport(string Backend, bool Found, int? Threads, IReadOnlyList<DeviceReport> Devices, string? Problem);

/// <summary>A device.</summary>
/// <param name="Number">What --device takes.</param>
/// <param name="Name">Its own name.</param>
/// <param name="InstructionSet">What its kernels use; of a GPU its compute capability.</param>
/// <param name="MemoryBytes">Its memory, the fast home.</param>
/// <param name="FreeMemoryBytes">How much of it is free now.</param>
/// <param name="CublasVersion">Of the cuBLAS that computes products of prompts; absent where none does.</param>
/// <param name="CublasProblem">Of a GPU: why the library's own, slower kernels do.</param>
internal sealed record DeviceReport(
    int Number, string Name, string InstructionSet, long MemoryBytes, long FreeMemoryBytes, int? CublasVersion, string? CublasProblem);
