using KCacheNative.Engine;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Options;

/// <summary>--fast-budget against what a policy needs, in the words of the command line.</summary>
internal static class FastBudget
{
    /// <exception cref="UsageException">The budget is below the smallest that works; the message names it.</exception>
    internal static void Require(LanguageModel model, CachePolicy policy, CacheOptions options)
    {
        if (options.FastBudgetBytes == 0)
            return;
        var needed = KvCache.Plan(model.Context, model.Config.CacheShape, policy, options with { FastBudgetBytes = 0 });
        if (Refusal(policy, options, needed) is { } refusal)
            throw new UsageException(refusal);
    }

    /// <summary>Why a budget does not suffice, or null.</summary>
    /// <param name="policy">The policy.</param>
    /// <param name="options">Size of the cache, with the budget.</param>
    /// <param name="needed">The plan without a budget.</param>
    internal static string? Refusal(CachePolicy policy, CacheOptions options, CacheMemory needed) =>
        options.FastBudgetBytes == 0 || options.FastBudgetBytes >= needed.FastMinimumBytes
            ? null
            : $"--fast-budget of {options.FastBudgetBytes} bytes is too small for --policy {PolicyOptions.Word(policy.Kind)}, which needs at least "
                + $"{needed.FastMinimumBytes} ({ByteSize.Format(needed.FastMinimumBytes)}) here; raise it, or lower --context, --keep or --batch-tokens.";
}
