using KCacheNative.Interop;

namespace KCacheNative.Handles;

/// <summary>Owns a kc_buffer.</summary>
internal sealed unsafe class BufferHandle : ChildHandle
{
    internal BufferHandle(ContextHandle context, ulong nBytes)
        : base(context)
    {
        nint buffer = 0;
        Own(NativeMethods.BufferCreate(context.DangerousGetHandle(), nBytes, &buffer), buffer);
    }

    internal BufferHandle(ContextHandle context, void* host, ulong nBytes)
        : base(context)
    {
        nint buffer = 0;
        Own(NativeMethods.BufferWrap(context.DangerousGetHandle(), host, nBytes, &buffer), buffer);
    }

    protected override void Destroy() => NativeMethods.BufferDestroy(handle);
}
