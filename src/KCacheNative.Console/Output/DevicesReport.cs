namespace KCacheNative.Console.Output;

/// <summary>What `devices --json` prints.</summary>
/// <param name="Version">Of this program.</param>
/// <param name="NativeVersion">Of the native library; absent where it cannot be loaded.</param>
/// <param name="Backends">All that are known, found or not.</param>
internal sealed record DevicesReport(string Version, string? NativeVersion, IReadOnlyList<BackendReport> Backends);

/// <summary>A backend.</summary>
/// <param name="Backend">"cpu" or "cuda".</param>
/// <param name="Found">Whether it can be used.</param>
/// <param name="Device">The device's own name.</param>
/// <param name="InstructionSet">What its kernels use.</param>
/// <param name="Threads">Worker threads it would use.</param>
/// <param name="Problem">Why it cannot be used.</param>
internal sealed record BackendReport(string Backend, bool Found, string? Device, string? InstructionSet, int? Threads, string? Problem);
