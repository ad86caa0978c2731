using System.CommandLine;
using System.Globalization;
using KCacheNative.Console.Evaluation;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Runtime;
using Spectre.Console;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache eval -f FILE`: one policy against full attention, window by window.</summary>
internal static class EvalWindows
{
    internal static async Task<int> RunAsync(
        Terminal terminal, ParseResult call, string model, EvalText text, PolicyOptions policyOptions, MachineOptions machine, bool json, CancellationToken cancellation)
    {
        var policy = policyOptions.Read(call);
        using var file = ModelSource.Open(model);
        var options = machine.ReadCache(call, text.Context);
        var report = await ProgressBars.RunAsync(terminal, bars =>
        {
            using var loaded = ModelSource.Load(file, machine.ReadContext(call), options.BatchTokens, bars, cancellation);
            return Evaluate(loaded, text, text.Read(loaded.Tokenizer), policy, options, bars, cancellation);
        });
        if (json)
            ConsoleJson.Write(terminal.Out, report);
        else
            Show(terminal.OutView, report, policy, text);
        return ExitCode.Success;
    }

    private static EvalReport Evaluate(
        LanguageModel model, EvalText text, int[][] windows, CachePolicy policy, CacheOptions options, ProgressBars bars, CancellationToken cancellation)
    {
        FastBudget.Require(model, policy, options);
        using var full = model.CreateCache(CachePolicy.Full, options with { FastBudgetBytes = 0 });
        using var cache = IsReference(policy) ? null : model.CreateCache(policy, options);
        using var bar = bars.Add($"Evaluating {windows.Length} window{(windows.Length == 1 ? "" : "s")}");
        var meter = new TokenMeter(bar, (double)windows.Length * WindowEvaluator.TokensRun(text.Context) * (cache is null ? 1 : 2));
        var evaluator = new WindowEvaluator(model, text.Last, meter, cancellation);
        return new EvalReport([.. windows.Select((window, i) => evaluator.Compare(full, cache, window, text.Windows[i]))]);
    }

    /// <summary>Whether a policy is what it would be compared with.</summary>
    internal static bool IsReference(CachePolicy policy) =>
        policy.Kind == PolicyKind.Full && policy.KeyCodec is Codec.Default or Codec.F16 && policy.ValueCodec is Codec.Default or Codec.F16;

    private static void Show(IAnsiConsole view, EvalReport report, CachePolicy policy, EvalText text)
    {
        string name = PolicyOptions.Word(policy.Kind);
        view.WriteLine($"{text.File}: windows of {Tables.Count(text.Context)} tokens, the last {Tables.Count(text.Last)} predicted one by one under {name} and under full attention");
        var table = Tables.Create(">", ">PPL full", $">PPL {name}", ">KL mean", ">KL max", ">Same top", ">Tail mean", ">Tail max", ">Rows");
        foreach (var w in report.Windows)
            table.AddRow(Cells(w.Window.ToString(CultureInfo.InvariantCulture), w));
        if (report.Windows.Count > 1)
        {
            double Mean(Func<WindowReport, double> value) => report.Windows.Average(value);
            double Most(Func<WindowReport, double> value) => report.Windows.Max(value);
            table.AddEmptyRow();
            table.AddRow(Cells("all", new WindowReport(0, Mean(w => w.NllFull), Mean(w => w.Nll), Mean(w => w.KlMean), Most(w => w.KlMax),
                Mean(w => w.Top1Agree), Mean(w => w.TailMean), Most(w => w.TailMax), [], Mean(w => w.RowsSelectedMean))));
        }

        view.Write(table);
        view.WriteLine("PPL: perplexity. KL: divergence from full attention's next-token distribution, in nats. Same top: share of steps with the same likeliest token. " +
            "Tail: attention weight outside the rows read exactly. Rows: read per KV head and step.");
        if (report.Windows[0].TailMeanByLayer is { Count: > 0 } first)
        {
            var layers = Enumerable.Range(0, first.Count).Select(layer => Tables.Number(report.Windows.Average(w => w.TailMeanByLayer[layer])));
            view.WriteLine($"Mean tail by layer (dense layers left out): {string.Join(' ', layers)}");
        }
    }

    private static Text[] Cells(string window, WindowReport w) =>
    [
        Tables.Cell(window), Tables.Cell(Tables.Number(Math.Exp(w.NllFull))), Tables.Cell(Tables.Number(Math.Exp(w.Nll))),
        Tables.Cell(Tables.Number(w.KlMean)), Tables.Cell(Tables.Number(w.KlMax)), Tables.Cell(Tables.Percent(w.Top1Agree)),
        Tables.Cell(Tables.Number(w.TailMean)), Tables.Cell(Tables.Number(w.TailMax)), Tables.Cell(Tables.Number(w.RowsSelectedMean)),
    ];
}
