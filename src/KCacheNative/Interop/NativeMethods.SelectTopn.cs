using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Stem select_topn of kcache_ops.h.
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_select_topn")]
    internal static partial Status SelectTopn(nint context, KcSelectTopnParams* parameters);

    [LibraryImport(Library, EntryPoint = "kc_select_topn_scratch_bytes")]
    internal static partial ulong SelectTopnScratchBytes(nint context, KcLayerView* layer, long nQueries, long tokenStride);
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcSelectTopnParams
{
    internal uint Size;
    internal int Select;
    internal KcWave* Wave;
    internal float* Weights;
    internal float* Mass;
    internal int NKeep;
    internal int NKeepMax;
    internal float MaxTail;
    internal float MaxError;
    internal long KeptStride;
    internal void* Scratch;
    internal int* Kept;
    internal int* NKept;
    internal int* NSelected;
    internal float* Tail;
    internal float* Error;
    internal int* Missed;
}
