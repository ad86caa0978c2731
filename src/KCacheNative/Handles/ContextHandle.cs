using System.Runtime.InteropServices;
using KCacheNative.Interop;

namespace KCacheNative.Handles;

/// <summary>Owns a kc_context.</summary>
internal sealed class ContextHandle : SafeHandle
{
    internal ContextHandle(nint context)
        : base(0, ownsHandle: true) => SetHandle(context);

    public override bool IsInvalid => handle == 0;

    protected override bool ReleaseHandle() => NativeMethods.ContextDestroy(handle) == Status.Ok;
}
