using KCacheNative.Interop;

namespace KCacheNative.Handles;

/// <summary>Owns a cublasHandle_t that works on a context's stream.</summary>
internal sealed unsafe class CuBlasHandle : ChildHandle
{
    /// <exception cref="KCacheException">cuBLAS does not work here.</exception>
    internal CuBlasHandle(ContextHandle context)
        : base(context)
    {
        nint stream = 0, created = 0;
        try
        {
            // Asking for the stream makes its device that of this thread, for which the handle is made.
            NativeMethods.ContextStream(context.DangerousGetHandle(), &stream).ThrowIfFailed();
            CuBlasMethods.Create(&created).ThrowIfFailed("creating a handle");
        }
        catch
        {
            Abandon();
            throw;
        }

        SetHandle(created);
        CuBlasMethods.SetStream(created, stream).ThrowIfFailed("choosing the stream");
    }

    protected override void Destroy() => CuBlasMethods.Destroy(handle);
}
