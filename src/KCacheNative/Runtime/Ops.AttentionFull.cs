using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

// Stem attention_full: a step of KvCache, reachable on its own for tests and benchmarks.
public static unsafe partial class Ops
{
    /// <summary>A prompt's attention.</summary>
    internal static void AttentionFull(ComputeContext context, in KcAttentionFullParams parameters)
    {
        fixed (KcAttentionFullParams* native = &parameters)
            NativeMethods.AttentionFull(context.Native, native).ThrowIfFailed();
        GC.KeepAlive(context);
    }
}
