using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Evaluation;

/// <summary>Generates the same continuation, greedily, under one policy after the other.</summary>
internal static class CompareRunner
{
    internal const int DefaultTokens = 64;

    internal static async Task<CompareReport> RunAsync(
        LanguageModel model, string name, ComparePrompt prompt, int tokens, IReadOnlyList<CachePolicy> policies, CacheOptions options, ProgressBars bars,
        CancellationToken cancellation)
    {
        using var bar = bars.Add("Comparing");
        var meter = new TokenMeter(bar, (double)policies.Count * prompt.Ids.Length);
        var entries = new List<CompareEntry>();
        foreach (var policy in policies)
        {
            // the reference gets what it needs: a budget is for the policies that are compared with it
            var cache = policy == CachePolicy.Full ? options with { FastBudgetBytes = 0 } : options;
            FastBudget.Require(model, policy, cache);
            using var session = model.CreateSession(policy, cache);
            var generation = new GenerationOptions { MaxTokens = tokens, StopStrings = prompt.StopStrings, Progress = meter };
            var result = await session.CompleteAsync(prompt.Ids, generation, cancellation);
            meter.Complete(prompt.Ids.Length);
            entries.Add(Describe(policy, result, KvCache.Plan(model.Context, model.Config.CacheShape, policy, session.Cache.Options), entries.FirstOrDefault()));
        }

        bool agree = entries.All(entry => entry.Ids.AsSpan().SequenceEqual(entries[0].Ids));
        var machine = model.Context.Info;
        return new CompareReport(
            name, MachineOptions.Word(machine.Backend), machine.Device, prompt.Ids.Length, prompt.Question, prompt.Expected, agree, entries);
    }

    private static CompareEntry Describe(CachePolicy policy, GenerationResult result, CacheMemory plan, CompareEntry? full)
    {
        int[] ids = [.. result.Ids];
        return new CompareEntry(
            PolicyOptions.Word(policy.Kind),
            result.Text.Trim(),
            ids,
            ids.AsSpan().CommonPrefixLength(full is null ? ids : full.Ids),
            result.Cache.FastBytes,
            plan.FastMinimumBytes,
            result.Steps.Steps > 0 ? (double)result.Steps.ReadBytes / result.Steps.Steps : 0,
            result.PromptTokensPerSecond,
            result.DecodeTokensPerSecond,
            result.Steps.TailMean,
            result.Steps.TailMax);
    }
}
