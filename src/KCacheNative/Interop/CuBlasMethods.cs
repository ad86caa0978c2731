using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

/// <summary>What is used of cuBLAS, as CUDA 11, 12 and 13 declare it. Matrices are column-major there.</summary>
internal static unsafe partial class CuBlasMethods
{
    internal const string Library = "cublas";

    /// <summary>CUBLAS_OP_N and CUBLAS_OP_T.</summary>
    internal const int AsIs = 0, Transposed = 1;

    /// <summary>CUDA_R_32F.</summary>
    internal const int Float32 = 0;

    /// <summary>CUBLAS_COMPUTE_32F: floats as they are.</summary>
    internal const int ComputeFloat32 = 68;

    /// <summary>CUBLAS_COMPUTE_32F_FAST_TF32: inputs with ten bits of mantissa, on tensor cores; sums in floats.</summary>
    internal const int ComputeTensorFloat32 = 77;

    /// <summary>CUBLAS_GEMM_DEFAULT.</summary>
    internal const int DefaultAlgorithm = -1;

    // The resolver of this assembly's imports is NativeMethods'.
    static CuBlasMethods() => RuntimeHelpers.RunClassConstructor(typeof(NativeMethods).TypeHandle);

    [LibraryImport(Library, EntryPoint = "cublasCreate_v2")]
    internal static partial CuBlasStatus Create(nint* handle);

    [LibraryImport(Library, EntryPoint = "cublasDestroy_v2")]
    internal static partial CuBlasStatus Destroy(nint handle);

    [LibraryImport(Library, EntryPoint = "cublasGetVersion_v2")]
    internal static partial CuBlasStatus GetVersion(nint handle, int* version);

    [LibraryImport(Library, EntryPoint = "cublasSetStream_v2")]
    internal static partial CuBlasStatus SetStream(nint handle, nint stream);

    [LibraryImport(Library, EntryPoint = "cublasSetWorkspace_v2")]
    internal static partial CuBlasStatus SetWorkspace(nint handle, void* workspace, nuint nBytes);

    [LibraryImport(Library, EntryPoint = "cublasGemmEx")]
    internal static partial CuBlasStatus GemmEx(
        nint handle, int opA, int opB, int m, int n, int k, void* alpha, void* a, int typeA, int lda, void* b, int typeB, int ldb, void* beta,
        void* c, int typeC, int ldc, int compute, int algorithm);

    [LibraryImport(Library, EntryPoint = "cublasGemmStridedBatchedEx")]
    internal static partial CuBlasStatus GemmStridedBatchedEx(
        nint handle, int opA, int opB, int m, int n, int k, void* alpha, void* a, int typeA, int lda, long strideA, void* b, int typeB, int ldb,
        long strideB, void* beta, void* c, int typeC, int ldc, long strideC, int nBatches, int compute, int algorithm);
}
