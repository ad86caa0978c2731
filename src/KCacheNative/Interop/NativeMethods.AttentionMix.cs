using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Stem attention_mix of kcache_ops.h.
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_attention_mix")]
    internal static partial Status AttentionMix(nint context, KcAttentionMixParams* parameters);

    [LibraryImport(Library, EntryPoint = "kc_attention_mix_scratch_bytes")]
    internal static partial ulong AttentionMixScratchBytes(nint context, KcLayerView* layer, long nQueries, long tokenStride);
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcAttentionMixParams
{
    internal uint Size;
    internal int Mode;
    internal KcWave* Wave;
    internal float* Weights;
    internal float* Reference;
    internal float* Mass;
    internal int* Kept;
    internal int* NKept;
    internal byte** Rows;
    internal long KeptStride;
    internal void* Scratch;
    internal float* Out;
    internal float* Tail;
    internal float* Error;
}
