using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Chapter 7 (one forward). kc_batch_entry is KCacheNative.Runtime.BatchEntry: the public type has the native layout.
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_cache_begin")]
    internal static partial Status CacheBegin(nint cache, Runtime.BatchEntry* entries, int nEntries);

    [LibraryImport(Library, EntryPoint = "kc_cache_append")]
    internal static partial Status CacheAppend(nint cache, int layer, float* k, float* v);

    [LibraryImport(Library, EntryPoint = "kc_cache_attend")]
    internal static partial Status CacheAttend(nint cache, int layer, float* q, float* output);

    [LibraryImport(Library, EntryPoint = "kc_cache_replay_begin")]
    internal static partial Status CacheReplayBegin(nint cache, ulong key, int* replayed);

    [LibraryImport(Library, EntryPoint = "kc_cache_replay_end")]
    internal static partial Status CacheReplayEnd(nint cache);

    [LibraryImport(Library, EntryPoint = "kc_cache_commit")]
    internal static partial Status CacheCommit(nint cache);

    [LibraryImport(Library, EntryPoint = "kc_cache_rollback")]
    internal static partial Status CacheRollback(nint cache);
}
