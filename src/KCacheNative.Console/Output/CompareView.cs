using Spectre.Console;

namespace KCacheNative.Console.Output;

/// <summary>The first thing that a user sees: what was asked, what came out, and what it cost.</summary>
internal static class CompareView
{
    internal static void Show(IAnsiConsole view, CompareReport report)
    {
        view.WriteLine();
        view.WriteLine(report.Question is null
            ? $"{Tables.Count(report.PromptTokens)} tokens, continued once under each cache policy:"
            : $"A question about {Tables.Count(report.PromptTokens)} tokens, answered once under each cache policy:");
        view.WriteLine();
        view.Write(Answers(report));
        view.WriteLine();
        view.Write(Figures(report));
        view.WriteLine();
        view.WriteLine(Explanation(report));
        view.WriteLine("Your own: kcache compare MODEL.gguf -f TEXT -q QUESTION (memory: kcache plan)");
    }

    private static Grid Answers(CompareReport report)
    {
        var grid = new Grid().AddColumn(new GridColumn().NoWrap().PadLeft(2).PadRight(3)).AddColumn(new GridColumn().PadRight(0));
        if (report.Question is not null)
            grid.AddRow(new Markup("[grey]question[/]"), Tables.Cell(report.Question));
        if (report.ExpectedAnswer is not null)
            grid.AddRow(new Markup("[grey]right answer[/]"), Tables.Cell(report.ExpectedAnswer));
        foreach (var entry in report.Policies)
            grid.AddRow(new Markup($"[bold]{Markup.Escape(entry.Policy)}[/]"), new Markup(Markup.Escape(Tables.Printable(entry.Text)) + Verdict(report, entry)));
        return grid;
    }

    private static string Verdict(CompareReport report, CompareEntry entry)
    {
        if (report.ExpectedAnswer is not null)
            return entry.Text == report.ExpectedAnswer ? " [green](right)[/]" : " [red](wrong)[/]";
        return entry == report.Policies[0] ? "" : Same(report, entry) ? " [green](same)[/]" : " [yellow](differs)[/]";
    }

    private static bool Same(CompareReport report, CompareEntry entry) => entry.Ids.AsSpan().SequenceEqual(report.Policies[0].Ids);

    private static Table Figures(CompareReport report)
    {
        var table = Tables.Create(["", .. report.Policies.Select(entry => ">" + entry.Policy)]);
        void Row(string name, Func<CompareEntry, string> value) =>
            table.AddRow([Tables.Cell(name), .. report.Policies.Select(entry => Tables.Cell(value(entry)))]);
        var full = report.Policies[0];
        Row("Same tokens as full", entry => entry == full ? "-" : Same(report, entry) ? $"all {full.Ids.Length}" : $"first {entry.TokensAgreeing} of {full.Ids.Length}");
        Row(report.Backend == "cuda" ? "Cache that must be on the GPU" : "Cache that must be in RAM", entry => Relative(entry.FastMinimumBytes, full.FastMinimumBytes, entry == full));
        Row("Cache read per token", entry => Relative(entry.BytesReadPerToken, full.BytesReadPerToken, entry == full));
        Row("Tokens per second", entry => Tables.Number(entry.DecodeTokensPerSecond));
        Row("Prompt tokens per second", entry => Tables.Number(entry.PromptTokensPerSecond));
        Row("Attention not read exactly", entry => entry == full ? "none" : Tables.Percent(entry.TailMean));
        Row("  in the worst head and step", entry => entry == full ? "none" : Tables.Percent(entry.TailMax));
        return table;
    }

    private static string Relative(double bytes, double full, bool isFull) =>
        isFull || full <= 0 ? Options.ByteSize.Format(bytes) : $"{Options.ByteSize.Format(bytes)} ({bytes / full * 100:0}%)";

    private static string Explanation(CompareReport report)
    {
        var parts = report.Policies.Skip(1).Select(entry => entry.Policy switch
        {
            "kcache" => "kcache leaves out values that hardly matter",
            "sketch" => "sketch reads the rest at low bits",
            "window" => "window forgets what is neither first nor recent",
            _ => "this cache stores all rows at fewer bits",
        });
        string text = string.Join("; ", parts);
        return text.Length == 0 ? "full reads every key and value of the cache at each token." : $"{text}.";
    }
}
