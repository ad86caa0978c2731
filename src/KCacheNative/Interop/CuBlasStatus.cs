namespace KCacheNative.Interop;

/// <summary>cublasStatus_t.</summary>
internal enum CuBlasStatus
{
    Success = 0,
    NotInitialized = 1,
    AllocFailed = 3,
    InvalidValue = 7,
    ArchMismatch = 8,
    MappingError = 11,
    ExecutionFailed = 13,
    InternalError = 14,
    NotSupported = 15,
    LicenseError = 16,
}

/// <summary>Turns a status of cuBLAS into an exception.</summary>
internal static class CuBlasStatusCheck
{
    /// <exception cref="KCacheException">The call failed.</exception>
    internal static void ThrowIfFailed(this CuBlasStatus status, string what)
    {
        if (status != CuBlasStatus.Success)
            throw new KCacheException(
                status == CuBlasStatus.AllocFailed ? Status.Memory : Status.Internal, $"cuBLAS: {what} failed with status {(int)status} ({status})");
    }
}
