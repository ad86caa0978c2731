using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Stem attention_full of kcache_ops.h.
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_attention_full")]
    internal static partial Status AttentionFull(nint context, KcAttentionFullParams* parameters);

    [LibraryImport(Library, EntryPoint = "kc_attention_full_scratch_bytes")]
    internal static partial ulong AttentionFullScratchBytes(nint context, KcLayerView* layer, long nContext);
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcAttentionFullParams
{
    internal uint Size;
    internal int NSequences;
    internal KcLayerView* Layer;
    internal KcSequenceView* Sequences;
    internal byte*** Staged;
    internal int NSink;
    internal int NRecent;
    internal int KvHeadBegin;
    internal int KvHeadEnd;
    internal float* Q;
    internal void* Scratch;
    internal float* Out;
}
