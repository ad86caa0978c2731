using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Stem attention_score of kcache_ops.h.
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_attention_score")]
    internal static partial Status AttentionScore(nint context, KcAttentionScoreParams* parameters);

    [LibraryImport(Library, EntryPoint = "kc_attention_score_scratch_bytes")]
    internal static partial ulong AttentionScoreScratchBytes(nint context, KcLayerView* layer, long nQueries, long tokenStride);
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcAttentionScoreParams
{
    internal uint Size;
    internal uint Reserved;
    internal KcWave* Wave;
    internal void* Scratch;
    internal float* Weights;
    internal float* Reference;
    internal float* Mass;
    internal int* NNonfinite;
}
