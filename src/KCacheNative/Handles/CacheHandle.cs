using KCacheNative.Interop;

namespace KCacheNative.Handles;

/// <summary>Owns a kc_cache.</summary>
internal sealed unsafe class CacheHandle : ChildHandle
{
    internal CacheHandle(ContextHandle context, KcCacheDesc* desc)
        : base(context)
    {
        nint cache = 0;
        Own(NativeMethods.CacheCreate(context.DangerousGetHandle(), desc, &cache), cache);
    }

    protected override void Destroy() => NativeMethods.CacheDestroy(handle);
}
