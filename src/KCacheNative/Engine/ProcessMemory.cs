using System.Diagnostics;

namespace KCacheNative.Engine;

/// <summary>The memory of this process.</summary>
public static class ProcessMemory
{
    /// <summary>The most bytes that were resident at once since the process began.</summary>
    public static long PeakResidentBytes
    {
        get
        {
            using var process = Process.GetCurrentProcess();
            return process.PeakWorkingSet64;
        }
    }
}
