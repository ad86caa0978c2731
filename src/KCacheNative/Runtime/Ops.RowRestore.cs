using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

// Stem row_restore: a step of KvCache, reachable on its own for tests and benchmarks.
public static unsafe partial class Ops
{
    /// <summary>The address of every kept row, brought into fast memory.</summary>
    internal static void RowRestore(ComputeContext context, in KcRowRestoreParams parameters)
    {
        fixed (KcRowRestoreParams* native = &parameters)
            NativeMethods.RowRestore(context.Native, native).ThrowIfFailed();
        GC.KeepAlive(context);
    }
}
