using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

// Stem kv_append: a step of KvCache, reachable on its own for tests and benchmarks.
public static unsafe partial class Ops
{
    /// <summary>Encodes and stores new rows.</summary>
    internal static void KvAppend(ComputeContext context, in KcKvAppendParams parameters)
    {
        fixed (KcKvAppendParams* native = &parameters)
            NativeMethods.KvAppend(context.Native, native).ThrowIfFailed();
        GC.KeepAlive(context);
    }
}
