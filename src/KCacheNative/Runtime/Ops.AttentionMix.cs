using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

// Stem attention_mix: a step of KvCache, reachable on its own for tests and benchmarks.
public static unsafe partial class Ops
{
    /// <summary>Weights times values.</summary>
    internal static void AttentionMix(ComputeContext context, in KcAttentionMixParams parameters)
    {
        fixed (KcAttentionMixParams* native = &parameters)
            NativeMethods.AttentionMix(context.Native, native).ThrowIfFailed();
        GC.KeepAlive(context);
    }
}
