using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

/// <summary>
/// Finds cuBLAS once per process: the file that KCACHE_CUBLAS names (and then no other), else under the names that CUDA 13, 12 and 11 give
/// it, where the system looks.
/// </summary>
internal static class CuBlasLoader
{
    /// <summary>Names the one file to load.</summary>
    internal const string Variable = "KCACHE_CUBLAS";

    private static readonly Lazy<nint> Loaded = new(static () => Load(Candidates()), LazyThreadSafetyMode.PublicationOnly);

    /// <summary>The loaded library.</summary>
    /// <exception cref="KCacheException">There is none; the message says what was tried.</exception>
    internal static nint Handle => Loaded.Value;

    /// <summary>The names to try, in order.</summary>
    internal static IReadOnlyList<string> Candidates()
    {
        if (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named)
            return [Path.GetFullPath(named)];
        return OperatingSystem.IsWindows()
            ? ["cublas64_13.dll", "cublas64_12.dll", "cublas64_11.dll"]
            : ["libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so"];
    }

    /// <summary>Loads the first that is cuBLAS.</summary>
    internal static nint Load(IReadOnlyList<string> names)
    {
        foreach (string name in names)
        {
            if (!NativeLibrary.TryLoad(name, out nint handle))
                continue;
            if (NativeLibrary.TryGetExport(handle, "cublasGemmEx", out _))
                return handle;
            NativeLibrary.Free(handle);
        }

        throw new KCacheException(
            $"cuBLAS is not found (tried {string.Join(", ", names)}): products of prompts take the library's own kernels, which are slower. "
            + $"Install the CUDA toolkit's libcublas, or name the file in the environment variable {Variable}.");
    }
}
