using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Chapter 8 (statistics).
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_cache_statistics")]
    internal static partial Status CacheStatistics(nint cache, int layer, KcStatistics* statistics);

    [LibraryImport(Library, EntryPoint = "kc_cache_statistics_reset")]
    internal static partial Status CacheStatisticsReset(nint cache);
}

[StructLayout(LayoutKind.Sequential)]
internal struct KcStatistics
{
    internal uint Size;
    internal uint Reserved;
    internal ulong NSteps;
    internal ulong NHeadSteps;
    internal double TailSum;
    internal double TailMax;
    internal double ErrorMax;
    internal ulong NSelections;
    internal ulong RowsSelected;
    internal ulong RowsRestored;
    internal ulong RowsHot;
    internal ulong RestoredBytes;
    internal ulong ReadBytes;
    internal ulong BoundMissed;
    internal ulong NNonfinite;
}
