using System.Xml.Linq;
using KCacheNative.Console.Evaluation;
using KCacheNative.Console.Output;

namespace KCacheNative.Tests.Console;

public class SweepOutputTests
{
    private static readonly SweepLine[] Lines =
    [
        new("full at low bits", [new("q8", 12_000, 0.0005), new("q4", 6_500, 0.004)]),
        new("kcache", [new("16", 13_000, 0.09), new("64", 13_500, 0.05), new("8192", 13_500, 0)]),
    ];

    [Test]
    public void ThePlotIsAnSvgWithALegendAndAPathPerLine()
    {
        var svg = XDocument.Parse(SweepPlot.Draw("title", Lines, 23_000));

        Assert.That(svg.Root!.Name.LocalName, Is.EqualTo("svg"));
        foreach (string color in new[] { "#6B7280", "#D97706" })
            Assert.That(svg.Descendants().Attributes("stroke").Select(a => a.Value), Has.Some.EqualTo(color), "a line in its own colour");
    }

    [Test]
    public void APlotWithoutPointsCanBeDrawn() =>
        Assert.That(SweepPlot.Draw("title", [new("kcache", [new("64", 13_500, 0)])], 23_000), Does.Contain("<svg"));

    [Test]
    public void TheTableHasARowASetting()
    {
        var report = new SweepReport("m/model.gguf", "text.txt", 2048, 128, [0, 3], Math.Log(20), 23_040,
        [
            new("full", "q8", "q8", null, null, 12_345, 99_000, 0.0005, 0.01, 0.99, Math.Log(20.1), 0),
            new("kcache", "f16", "f16", "renormalized", 64, 13_456, 88_000, 0.05, 0.9, 0.9, Math.Log(21), 0.25),
        ]);
        using var writer = new StringWriter { NewLine = "\n" };
        SweepTable.Write(report, writer);
        string[] lines = writer.ToString().TrimEnd().Split('\n');

        Assert.That(lines[0], Is.EqualTo("model.gguf, text.txt: the last 128 of 2,048 tokens, 2 windows."));
        Assert.That(lines[1], Does.Contain("perplexity 20.0").And.Contain("23,040 bytes"));
        Assert.That(lines[^2], Is.EqualTo("| full | q8 | q8 | - | - | 12,345 | 99,000 | 5.0e-4 | 0.0100 | 99.0% | 20.1 | - |"));
        Assert.That(lines[^1], Is.EqualTo("| kcache | f16 | f16 | renormalized | 64 | 13,456 | 88,000 | 0.0500 | 0.900 | 90.0% | 21.0 | 0.250 |"));
        Assert.That(lines[3..].Select(line => line.Count(c => c == '|')), Is.All.EqualTo(13));
    }
}
