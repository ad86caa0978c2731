using System.CommandLine;
using KCacheNative.Console.Evaluation;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Engine;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache eval --sweep`: many settings, into a table and a plot.</summary>
internal static class EvalSweep
{
    internal static async Task<int> RunAsync(
        Terminal terminal, ParseResult call, string model, EvalText text, SweepOptions sweep, MachineOptions machine, bool json, CancellationToken cancellation)
    {
        if (machine.ReadFastBudget(call) is not null)
            throw new UsageException("--sweep plans the fast memory of every setting itself; leave --fast-budget out.");
        string output = sweep.ReadOutput(call);
        RequireFolder(output);
        var series = sweep.Read(call);
        var skipped = new List<string>();
        var options = machine.ReadCache(call, text.Context);
        using var file = ModelSource.Open(model);
        var (report, lines) = await ProgressBars.RunAsync(terminal, bars =>
        {
            using var loaded = ModelSource.Load(file, machine.ReadContext(call), options.BatchTokens, bars, cancellation);
            int[][] windows = text.Read(loaded.Tokenizer);
            var runner = new SweepRunner(loaded, text, options);
            return Measure(loaded, model, text, windows, runner, runner.Offered(series, skipped.Add), bars, cancellation);
        });

        foreach (string line in skipped)
            ErrorReport.WriteSentence($"left out, because it is not offered: {line}", terminal.Error);
        Write(output + ".md", writer => SweepTable.Write(report, writer));
        Write(output + ".json", writer => ConsoleJson.Write(writer, report));
        Write(output + ".svg", writer => writer.Write(SweepPlot.Draw(SweepTable.Title(report), lines, report.FullFastBytesPerToken)));
        if (json)
        {
            ConsoleJson.Write(terminal.Out, report);
        }
        else
        {
            SweepTable.Write(report, terminal.Out);
            terminal.Out.WriteLine();
            terminal.Out.WriteLine($"Written: {output}.md, {output}.json, {output}.svg");
        }

        return ExitCode.Success;
    }

    private static (SweepReport, IReadOnlyList<SweepLine>) Measure(
        LanguageModel loaded, string model, EvalText text, int[][] windows, SweepRunner runner,
        IReadOnlyList<PlannedSetting> settings, ProgressBars bars, CancellationToken cancellation)
    {
        if (settings.Count == 0)
            throw new UsageException("none of the settings asked for is offered by this build; see --sweep-policies and --sweep-codecs.");
        using var bar = bars.Add($"Sweeping {settings.Count} settings over {windows.Length} window{(windows.Length == 1 ? "" : "s")}");
        var meter = new TokenMeter(bar, (double)windows.Length * (settings.Count + 1) * WindowEvaluator.TokensRun(text.Context));
        var (rows, nllFull, fullBytes) = runner.Run(settings, windows, new WindowEvaluator(loaded, text.Last, meter, cancellation));
        var report = new SweepReport(model, text.File, text.Context, text.Last, text.Windows, nllFull, (double)fullBytes / text.Context, rows);
        var lines = settings.Zip(rows, (setting, row) => (setting.Series, Point: new SweepPoint(setting.Setting.Label, row.FastBytesPerToken, row.KlMean)))
            .GroupBy(entry => entry.Series)
            .Select(group => new SweepLine(group.Key.Name, [.. group.Select(entry => entry.Point)]));
        return (report, [.. lines]);
    }

    // Said before hours of work, not after.
    private static void RequireFolder(string output)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(output)) ?? ".";
        if (!Directory.Exists(folder))
            throw new UsageException($"there is no directory '{folder}' for --output {output}; create it first.");
    }

    private static void Write(string path, Action<TextWriter> write)
    {
        using var writer = new StreamWriter(path) { NewLine = "\n" };
        write(writer);
    }
}
