using System.Runtime.InteropServices;

namespace KCacheNative.Handles;

/// <summary>
/// A native object of a context. It holds a counted reference to the context's handle, so the context goes last, whatever the order of
/// disposal.
/// </summary>
internal abstract class ChildHandle : SafeHandle
{
    private readonly ContextHandle _parent;

    protected ChildHandle(ContextHandle parent)
        : base(0, ownsHandle: true)
    {
        bool added = false;
        parent.DangerousAddRef(ref added);
        _parent = parent;
    }

    public override bool IsInvalid => handle == 0;

    protected abstract void Destroy();

    /// <summary>Takes what a native create function made, or throws what it reported.</summary>
    protected void Own(Status status, nint created)
    {
        if (status == Status.Ok)
        {
            SetHandle(created);
            return;
        }

        Abandon();
        status.ThrowIfFailed();
    }

    /// <summary>Nothing was made: the context need not wait for this.</summary>
    protected void Abandon()
    {
        _parent.DangerousRelease();
        SetHandleAsInvalid();
    }

    protected override bool ReleaseHandle()
    {
        Destroy();
        _parent.DangerousRelease();
        return true;
    }
}
