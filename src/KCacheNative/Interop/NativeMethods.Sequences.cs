using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Chapter 6 (sequences).
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_sequence_create")]
    internal static partial Status SequenceCreate(nint cache, int* sequence);

    [LibraryImport(Library, EntryPoint = "kc_sequence_fork")]
    internal static partial Status SequenceFork(nint cache, int source, int* sequence);

    [LibraryImport(Library, EntryPoint = "kc_sequence_truncate")]
    internal static partial Status SequenceTruncate(nint cache, int sequence, int nTokens);

    [LibraryImport(Library, EntryPoint = "kc_sequence_free")]
    internal static partial Status SequenceFree(nint cache, int sequence);

    [LibraryImport(Library, EntryPoint = "kc_sequence_length")]
    internal static partial Status SequenceLength(nint cache, int sequence, int* nTokens);
}
