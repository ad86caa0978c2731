using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

// Stem select_topn: a step of KvCache, reachable on its own for tests and benchmarks.
public static unsafe partial class Ops
{
    /// <summary>Which tokens count exactly.</summary>
    internal static void SelectTopn(ComputeContext context, in KcSelectTopnParams parameters)
    {
        fixed (KcSelectTopnParams* native = &parameters)
            NativeMethods.SelectTopn(context.Native, native).ThrowIfFailed();
        GC.KeepAlive(context);
    }
}
