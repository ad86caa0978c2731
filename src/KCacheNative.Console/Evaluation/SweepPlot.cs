using System.Globalization;
using ScottPlot;
using ScottPlot.TickGenerators;

namespace KCacheNative.Console.Evaluation;

/// <summary>Draws what a sweep found: error against memory, both logarithmic, a line a policy.</summary>
internal static class SweepPlot
{
    private const int Width = 900;
    private const int Height = 600;

    // Lines with more points are labelled at their ends only: labels of neighbouring lines would cover each other.
    private const int MostLabels = 4;

    private static readonly string[] SansFonts = ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans", "Noto Sans"];

    // Colours that differ in lightness too, so that a print in grey can be read.
    private static readonly string[] LineColors = ["#6b7280", "#d97706", "#2563eb", "#059669", "#db2777", "#7c3aed", "#0891b2", "#92400e"];
    private static readonly MarkerShape[] Markers =
    [
        MarkerShape.FilledSquare, MarkerShape.FilledTriangleUp, MarkerShape.FilledCircle, MarkerShape.FilledDiamond,
        MarkerShape.OpenCircle, MarkerShape.OpenSquare, MarkerShape.OpenTriangleUp, MarkerShape.OpenDiamond,
    ];

    /// <summary>The plot as SVG text.</summary>
    /// <param name="title">What was measured: model, text, context.</param>
    /// <param name="lines">Points of a line are joined in the order given; those that are not above 0 cannot stand on the axes and are left out.</param>
    /// <param name="fullBytesPerToken">Memory of the reference, which has no error and so no point: a vertical line.</param>
    internal static string Draw(string title, IReadOnlyList<SweepLine> lines, double fullBytesPerToken)
    {
        var plot = new Plot();
        string font = SansFonts.FirstOrDefault(name => Fonts.GetTypeface(name, bold: false, italic: false)?.FamilyName == name) ?? Fonts.Default;
        var drawn = new List<(double X, double Y)>();
        for (int i = 0; i < lines.Count; i++)
            drawn.AddRange(AddLine(plot, lines[i], i, font));

        var reference = plot.Add.VerticalLine(Math.Log10(fullBytesPerToken), 1.5f, Color.FromHex("#6b7280"), LinePattern.Dashed);
        reference.LegendText = "full over f16, the reference";
        plot.Axes.Bottom.TickGenerator = new NumericManual(Ticks(drawn.Select(p => p.X).Append(Math.Log10(fullBytesPerToken))));
        plot.Axes.Left.TickGenerator = new NumericManual(Ticks(drawn.Select(p => p.Y)));
        plot.Grid.MajorLineColor = Color.FromHex("#e5e7eb");
        plot.Title(title, 15);
        plot.XLabel("fast memory, bytes per token of context (logarithmic)", 13);
        plot.YLabel("mean KL divergence from full attention, nats (logarithmic)", 13);
        plot.ShowLegend(Edge.Bottom);
        plot.Legend.Orientation = Orientation.Horizontal;
        plot.Legend.TightHorizontalWrapping = false;
        plot.Legend.ShadowColor = Colors.Transparent;
        plot.Legend.OutlineColor = Colors.Transparent;
        plot.Axes.Margins(0.1, 0.1);
        plot.Font.Set(font);
        // the reader's machine may lack this machine's font
        return plot.GetSvgXml(Width, Height).Replace($"font-family=\"{font}\"", $"font-family=\"{font}, sans-serif\"");
    }

    private static List<(double X, double Y)> AddLine(Plot plot, SweepLine line, int index, string font)
    {
        var points = line.Points
            .Where(p => p.BytesPerToken > 0 && p.MeanDivergence > 0)
            .Select(p => (X: Math.Log10(p.BytesPerToken), Y: Math.Log10(p.MeanDivergence), p.Label))
            .ToList();
        if (points.Count == 0)
            return [];
        var scatter = plot.Add.Scatter(points.Select(p => p.X).ToArray(), points.Select(p => p.Y).ToArray());
        scatter.LegendText = line.Name;
        scatter.Color = Color.FromHex(LineColors[index % LineColors.Length]);
        scatter.MarkerShape = Markers[index % Markers.Length];
        scatter.MarkerSize = 8;
        scatter.LineWidth = 2;
        foreach (var (x, y, label) in points.Count > MostLabels ? [points[0], points[^1]] : points)
        {
            var text = plot.Add.Text(label, x, y);
            text.LabelFontName = font;
            text.LabelFontSize = 11;
            text.LabelFontColor = scatter.Color;
            text.OffsetX = 7;
            text.OffsetY = -14;
        }

        return [.. points.Select(p => (p.X, p.Y))];
    }

    /// <summary>Ticks at 1, 2 and 5 of every power of ten that the values reach, at every digit where they reach less than one.</summary>
    private static Tick[] Ticks(IEnumerable<double> logarithms)
    {
        double[] values = [.. logarithms];
        if (values.Length == 0)
            return [];
        int[] digits = values.Max() - values.Min() < 1 ? [1, 2, 3, 4, 5, 6, 7, 8, 9] : [1, 2, 5];
        int least = (int)Math.Floor(values.Min()), most = (int)Math.Ceiling(values.Max());
        return [.. from power in Enumerable.Range(least, most - least + 1)
                   from digit in digits
                   let value = digit * Math.Pow(10, power)
                   select new Tick(Math.Log10(value), Label(value), isMajor: true)];
    }

    private static string Label(double value) => value >= 1e-4 && value < 1e6
        ? value.ToString("#,0.####", CultureInfo.InvariantCulture)
        : value.ToString("0e0", CultureInfo.InvariantCulture);
}

/// <summary>A line of the plot.</summary>
/// <param name="Name">For the legend.</param>
/// <param name="Points">In the order in which they are joined.</param>
internal sealed record SweepLine(string Name, IReadOnlyList<SweepPoint> Points);

/// <summary>A point of the plot.</summary>
/// <param name="Label">Beside the point: N, or the codec.</param>
/// <param name="BytesPerToken">Fast memory per token of context.</param>
/// <param name="MeanDivergence">Mean KL divergence from full attention, in nats.</param>
internal readonly record struct SweepPoint(string Label, double BytesPerToken, double MeanDivergence);
