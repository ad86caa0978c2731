using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Chapter 5 (cache).
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_cache_memory")]
    internal static partial Status CacheMemory(nint context, KcCacheDesc* desc, KcMemory* memory);

    [LibraryImport(Library, EntryPoint = "kc_cache_create")]
    internal static partial Status CacheCreate(nint context, KcCacheDesc* desc, nint* cache);

    [LibraryImport(Library, EntryPoint = "kc_cache_destroy")]
    internal static partial void CacheDestroy(nint cache);

    [LibraryImport(Library, EntryPoint = "kc_cache_usage")]
    internal static partial Status CacheUsage(nint cache, KcMemory* memory);
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcCacheDesc
{
    internal uint Size;
    internal int NLayers;
    internal int NQHeads;
    internal int NKvHeads;
    internal int HeadDim;
    internal int NContext;
    internal int NSequences;
    internal int NBatchTokens;
    internal long NPoolTokens;
    internal float Scale;
    internal int Policy;
    internal int Mode;
    internal int Select;
    internal int KCodec;
    internal int VCodec;
    internal int VSketch;
    internal int NKeep;
    internal int NKeepMax;
    internal int NSink;
    internal int NRecent;
    internal int NDenseLayers;
    internal float MaxTail;
    internal float MaxError;
    internal ulong FastBudgetBytes;
    internal byte* SpillDir;
}

[StructLayout(LayoutKind.Sequential)]
internal struct KcMemory
{
    internal uint Size;
    internal uint NFastExactPages;
    internal ulong FastBytes;
    internal ulong SlowBytes;
    internal ulong FastMinimumBytes;
    internal ulong KeysBytes;
    internal ulong ValuesBytes;
    internal ulong ExactBytes;
    internal ulong HotBytes;
    internal ulong ScratchBytes;
}
