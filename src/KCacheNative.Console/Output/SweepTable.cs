namespace KCacheNative.Console.Output;

/// <summary>A sweep as a Markdown table.</summary>
internal static class SweepTable
{
    /// <summary>What was measured, in a line.</summary>
    internal static string Title(SweepReport report) =>
        $"{Path.GetFileName(report.Model)}, {Path.GetFileName(report.Text)}: the last {Tables.Count(report.Last)} of {Tables.Count(report.Context)} tokens"
        + (report.Windows.Count > 1 ? $", {report.Windows.Count} windows" : "");

    internal static void Write(SweepReport report, TextWriter output)
    {
        output.WriteLine($"{Title(report)}.");
        output.WriteLine($"Full attention over an f16 cache: perplexity {Tables.Number(Math.Exp(report.NllFull))}, {Tables.Count(report.FullFastBytesPerToken)} bytes of fast memory per token.");
        output.WriteLine();
        output.WriteLine("| policy | K | V | mode | N | fast bytes/token | read bytes/step | mean KL | max KL | same top token | perplexity | tail |");
        output.WriteLine("| --- | --- | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |");
        foreach (var row in report.Rows)
        {
            output.WriteLine(
                $"| {row.Policy} | {row.KCodec} | {row.VCodec} | {row.Mode ?? "-"} | {(row.Keep is { } keep ? Tables.Count(keep) : "-")} " +
                $"| {Tables.Count(row.FastBytesPerToken)} | {Tables.Count(row.BytesReadPerToken)} | {Tables.Number(row.KlMean)} | {Tables.Number(row.KlMax)} " +
                $"| {Tables.Percent(row.Top1Agree)} | {Tables.Number(Math.Exp(row.Nll))} | {(row.Keep is null ? "-" : Tables.Number(row.TailMean))} |");
        }
    }
}
