using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

// Stem attention_score: a step of KvCache, reachable on its own for tests and benchmarks.
public static unsafe partial class Ops
{
    /// <summary>The weights of a wave's decode steps.</summary>
    internal static void AttentionScore(ComputeContext context, in KcAttentionScoreParams parameters)
    {
        fixed (KcAttentionScoreParams* native = &parameters)
            NativeMethods.AttentionScore(context.Native, native).ThrowIfFailed();
        GC.KeepAlive(context);
    }
}
