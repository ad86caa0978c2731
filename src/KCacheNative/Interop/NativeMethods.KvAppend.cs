using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Stem kv_append of kcache_ops.h.
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_kv_append")]
    internal static partial Status KvAppend(nint context, KcKvAppendParams* parameters);

    [LibraryImport(Library, EntryPoint = "kc_kv_decode")]
    internal static partial Status KvDecode(
        nint context, KcLayerView* layer, KcSequenceView* sequence, int isV, int kvHead, int firstToken, int nTokens, float* output);
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcKvAppendParams
{
    internal uint Size;
    internal int NSequences;
    internal KcLayerView* Layer;
    internal KcSequenceView* Sequences;
    internal float* K;
    internal float* V;
    internal ulong* NNonfinite;
}
