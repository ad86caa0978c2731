using KCacheNative.Engine;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Evaluation;

/// <summary>Which policies this build offers; the library itself is asked.</summary>
internal static class PolicyTable
{
    /// <summary>False where the library does not offer the policy, whatever the budget.</summary>
    internal static bool IsOffered(LanguageModel model, CachePolicy policy, CacheOptions options)
    {
        try
        {
            KvCache.Plan(model.Context, model.Config.CacheShape, policy, options with { FastBudgetBytes = 0 });
            return true;
        }
        catch (KCacheException refusal) when (refusal.Status == Status.Unsupported)
        {
            return false;
        }
    }
}
