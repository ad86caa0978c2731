using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Evaluation;

/// <summary>Measures many settings on the same windows; full attention runs once per window and is shared by all of them.</summary>
internal sealed class SweepRunner(LanguageModel model, EvalText text, CacheOptions options)
{
    // They share a prompt's run; all at once would take too much memory.
    private const int CachesAtOnce = 4;

    /// <summary>The settings that this build offers, with their plans.</summary>
    /// <param name="series">All settings.</param>
    /// <param name="skipped">Told those that are not offered, and why.</param>
    internal IReadOnlyList<PlannedSetting> Offered(IReadOnlyList<SweepSeries> series, Action<string> skipped)
    {
        var offered = new List<PlannedSetting>();
        foreach (var line in series)
        {
            foreach (var setting in line.Settings)
            {
                try
                {
                    offered.Add(new PlannedSetting(line, setting, KvCache.Plan(model.Context, model.Config.CacheShape, setting.Policy, options)));
                }
                catch (KCacheException refusal) when (refusal.Status is Status.Unsupported)
                {
                    skipped($"{line.Name}, {setting.Label}: {refusal.Message}");
                }
            }
        }

        return offered;
    }

    /// <summary>Measures settings.</summary>
    /// <param name="settings">What <see cref="Offered"/> returned.</param>
    /// <param name="windows">The windows' tokens.</param>
    /// <param name="evaluator">Runs them.</param>
    /// <returns>A row a setting; of full attention the mean negative log likelihood and the bytes of fast memory.</returns>
    internal (IReadOnlyList<SweepRow> Rows, double NllFull, long FullBytes) Run(
        IReadOnlyList<PlannedSetting> settings, int[][] windows, WindowEvaluator evaluator)
    {
        var results = settings.Select(_ => new List<SettingResult>()).ToArray();
        var reference = new ReferenceRows(text.Last, model.Config.VocabularySize);
        double nllFull = 0;
        long fullBytes = 0;
        for (int i = 0; i < windows.Length; i++)
        {
            int[] window = windows[i];
            using (var full = model.CreateCache(CachePolicy.Full, options))
            {
                fullBytes = full.Memory.FastBytes;
                evaluator.RunSteps(full, evaluator.RunPrompts([full], window)[0], window, 0, text.Last, reference.Keep);
            }

            var targets = evaluator.Targets(window);
            for (int step = 0; step < text.Last; step++)
                nllFull += NextTokenDistribution.NegativeLogLikelihood(reference.Logits(step), reference.LogSumExp(step), targets[step]);
            foreach (int[] group in Enumerable.Range(0, settings.Count).Chunk(CachesAtOnce))
            {
                var reports = RunSettings([.. group.Select(s => settings[s].Setting.Policy)], text.Windows[i], window, reference, evaluator);
                for (int s = 0; s < group.Length; s++)
                    results[group[s]].Add(reports[s]);
            }
        }

        return ([.. settings.Zip(results, Summarize)], nllFull / ((double)windows.Length * text.Last), fullBytes);
    }

    private SettingResult[] RunSettings(CachePolicy[] policies, int number, int[] window, ReferenceRows reference, WindowEvaluator evaluator)
    {
        var caches = new List<KvCache>();
        try
        {
            foreach (var policy in policies)
                caches.Add(model.CreateCache(policy, options));
            int[] sequences = evaluator.RunPrompts([.. caches], window);
            return [.. caches.Select((cache, i) =>
            {
                var comparison = new WindowComparison();
                evaluator.RunSteps(cache, sequences[i], window, 0, text.Last,
                    (step, logits) => comparison.Add(reference.Logits(step), reference.LogSumExp(step), logits, evaluator.Targets(window)[step]));
                return new SettingResult(comparison.Summarize(number, cache), cache.Statistics());
            })];
        }
        finally
        {
            foreach (var cache in caches)
                cache.Dispose();
        }
    }

    private SweepRow Summarize(PlannedSetting planned, List<SettingResult> results)
    {
        var policy = planned.Setting.Policy;
        double Mean(Func<WindowReport, double> value) => results.Average(r => value(r.Window));
        return new SweepRow(
            PolicyOptions.Word(policy.Kind),
            PolicyOptions.Word(policy.KeyCodec),
            PolicyOptions.Word(policy.Kind == PolicyKind.Sketch ? policy.ValueSketch : policy.ValueCodec),
            policy.Kind == PolicyKind.KCache ? PolicyOptions.Word(policy.Mode) : null,
            policy.Kind is PolicyKind.KCache or PolicyKind.Sketch ? policy.Keep : null,
            (double)planned.Plan.FastMinimumBytes / text.Context,
            (double)results.Sum(r => r.Steps.ReadBytes) / results.Sum(r => r.Steps.Steps),
            Mean(w => w.KlMean),
            results.Max(r => r.Window.KlMax),
            Mean(w => w.Top1Agree),
            Mean(w => w.Nll),
            Mean(w => w.TailMean));
    }

    private sealed record SettingResult(WindowReport Window, StepStatistics Steps);
}

/// <summary>A setting that is offered, and what its cache will need.</summary>
internal sealed record PlannedSetting(SweepSeries Series, SweepSetting Setting, CacheMemory Plan);
