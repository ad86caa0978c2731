using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Stem elementwise of kcache_ops.h.
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_rms_norm")]
    internal static partial Status RmsNorm(nint context, float* x, float* weight, long nTokens, long dim, float eps, float* output);

    [LibraryImport(Library, EntryPoint = "kc_rope_table")]
    internal static partial Status RopeTable(
        nint context, int* positions, float* invFreq, long nTokens, long nPairs, float magnitude, float* output);

    [LibraryImport(Library, EntryPoint = "kc_rope")]
    internal static partial Status Rope(
        nint context, float* table, long nTokens, long nHeads, long headDim, long nPairs, int pairing, float* x);

    [LibraryImport(Library, EntryPoint = "kc_swiglu")]
    internal static partial Status SwiGlu(nint context, float* gate, float* up, long n, float* output);

    [LibraryImport(Library, EntryPoint = "kc_add")]
    internal static partial Status Add(nint context, float* a, float* b, long n, float* output);

    [LibraryImport(Library, EntryPoint = "kc_embed")]
    internal static partial Status Embed(nint context, KcMatrix* table, int* ids, long nTokens, float* output);

    [LibraryImport(Library, EntryPoint = "kc_softmax")]
    internal static partial Status Softmax(nint context, float* x, long nRows, long nCols, float* output);

    [LibraryImport(Library, EntryPoint = "kc_argmax")]
    internal static partial Status ArgMax(nint context, float* x, long nRows, long nCols, int* output);
}
