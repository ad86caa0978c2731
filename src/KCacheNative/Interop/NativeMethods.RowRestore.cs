using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Stem row_restore of kcache_ops.h.
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_spill_create")]
    internal static partial Status SpillCreate(nint context, byte* dir, nint* spill);

    [LibraryImport(Library, EntryPoint = "kc_spill_reserve")]
    internal static partial Status SpillReserve(nint spill, ulong nBytes);

    [LibraryImport(Library, EntryPoint = "kc_spill_write")]
    internal static partial Status SpillWrite(nint spill, ulong offsetBytes, void* data, ulong nBytes);

    [LibraryImport(Library, EntryPoint = "kc_spill_read")]
    internal static partial Status SpillRead(nint spill, ulong offsetBytes, void* data, ulong nBytes);

    [LibraryImport(Library, EntryPoint = "kc_spill_destroy")]
    internal static partial void SpillDestroy(nint spill);

    [LibraryImport(Library, EntryPoint = "kc_hot_state_bytes")]
    internal static partial ulong HotStateBytes(int nSlots);

    [LibraryImport(Library, EntryPoint = "kc_hot_drop")]
    internal static partial Status HotDrop(nint context, KcHotStore* hot, int nKvHeads, int slot, int firstToken);

    [LibraryImport(Library, EntryPoint = "kc_row_restore_begin")]
    internal static partial Status RowRestoreBegin(nint context, KcRowRestoreParams* parameters);

    [LibraryImport(Library, EntryPoint = "kc_row_restore_end")]
    internal static partial Status RowRestoreEnd(nint context, KcRowRestoreParams* parameters);

    [LibraryImport(Library, EntryPoint = "kc_row_restore")]
    internal static partial Status RowRestore(nint context, KcRowRestoreParams* parameters);

    [LibraryImport(Library, EntryPoint = "kc_row_restore_scratch_bytes")]
    internal static partial ulong RowRestoreScratchBytes(nint context, KcLayerView* layer, long nQueries, long keptStride);
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcHotStore
{
    internal int NSlots;
    internal int Reserved;
    internal byte* Rows;
    internal long HotStrideBytes;
    internal byte* State;
    internal long StateStrideBytes;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcRowRestoreParams
{
    internal uint Size;
    internal uint Reserved;
    internal KcWave* Wave;
    internal KcHotStore* Hot;
    internal int* Kept;
    internal int* NKept;
    internal long KeptStride;
    internal byte* Staging;
    internal void* Scratch;
    internal byte** Rows;
    internal int* NRestored;
    internal int* NHot;
}
