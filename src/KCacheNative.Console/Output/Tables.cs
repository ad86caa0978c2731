using System.Globalization;
using Spectre.Console;

namespace KCacheNative.Console.Output;

/// <summary>The look of tables: the same in every command, readable at 80 columns and in a file.</summary>
internal static class Tables
{
    /// <param name="headers">One a column; a leading > aligns the column to the right.</param>
    internal static Table Create(params string[] headers)
    {
        var table = new Table { Border = TableBorder.Rounded };
        table.BorderColor(Color.Grey);
        foreach (string header in headers)
        {
            bool right = header.StartsWith('>');
            var column = new TableColumn(new Markup($"[bold]{Markup.Escape(right ? header[1..] : header)}[/]"));
            table.AddColumn(right ? column.RightAligned() : column);
        }

        return table;
    }

    /// <summary>Text as it is: nothing in it is taken for markup, and what could drive a terminal is replaced.</summary>
    internal static Text Cell(string text) => new(Printable(text));

    /// <summary>Text with control characters replaced.</summary>
    internal static string Printable(string text) =>
        text.Any(c => char.IsControl(c) && c != '\n') ? string.Concat(text.Select(c => char.IsControl(c) && c != '\n' ? '\uFFFD' : c)) : text;

    /// <summary>A whole number with its thousands apart: "8,068".</summary>
    internal static string Count(double number) => number.ToString("#,0", CultureInfo.InvariantCulture);

    /// <summary>A number with three digits that count: "0.00123", "12.3", "4,120", "1.2e-5".</summary>
    internal static string Number(double number) => number switch
    {
        double.NaN => "-",
        0 => "0",
        _ => Math.Abs(number) switch
        {
            >= 1000 => number.ToString("#,0", CultureInfo.InvariantCulture),
            >= 100 => number.ToString("0", CultureInfo.InvariantCulture),
            >= 10 => number.ToString("0.0", CultureInfo.InvariantCulture),
            >= 1 => number.ToString("0.00", CultureInfo.InvariantCulture),
            >= 0.1 => number.ToString("0.000", CultureInfo.InvariantCulture),
            >= 0.01 => number.ToString("0.0000", CultureInfo.InvariantCulture),
            >= 0.001 => number.ToString("0.00000", CultureInfo.InvariantCulture),
            _ => number.ToString("0.0e0", CultureInfo.InvariantCulture),
        },
    };

    /// <summary>A share of one as percent: "97.6%".</summary>
    internal static string Percent(double share) => double.IsNaN(share) ? "-" : (share * 100).ToString("0.0", CultureInfo.InvariantCulture) + "%";
}
