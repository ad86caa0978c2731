using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Stem matmul of kcache_ops.h.
internal static unsafe partial class NativeMethods
{
    internal const int MatmulMaxOutputs = 4;

    [LibraryImport(Library, EntryPoint = "kc_matrix_bytes")]
    internal static partial ulong MatrixBytes(int type, long nRows, long nCols);

    [LibraryImport(Library, EntryPoint = "kc_matmul")]
    internal static partial Status Matmul(nint context, KcMatmulParams* parameters);

    [LibraryImport(Library, EntryPoint = "kc_matrix_expand")]
    internal static partial Status MatrixExpand(nint context, KcMatrix* weight, long firstRow, long nRows, float* output);
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcMatrix
{
    internal void* Data;
    internal long NRows;
    internal long NCols;
    internal int Type;
    internal int Reserved;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcMatmulOutput
{
    internal KcMatrix Weight;
    internal float* Bias;
    internal float* Out;
    internal long OutStride;
    internal int Accumulate;
    internal int Reserved;
}

[InlineArray(NativeMethods.MatmulMaxOutputs)]
internal struct KcMatmulOutputs
{
    private KcMatmulOutput _first;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcMatmulParams
{
    internal uint Size;
    internal int NOutputs;
    internal float* X;
    internal long NTokens;
    internal long NCols;
    internal long XStride;
    internal KcMatmulOutputs Outputs;
}
