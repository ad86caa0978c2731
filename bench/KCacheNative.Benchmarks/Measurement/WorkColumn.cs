using System.Globalization;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;

namespace KCacheNative.Benchmarks.Measurement;

/// <summary>A figure that follows from a benchmark's work and its mean time.</summary>
internal sealed class WorkColumn : IColumn
{
    private const string None = "-";

    private readonly Func<Work, double> _amount;
    private readonly Func<double, double, string> _text;

    // amount: of the work, what the figure is about; text: of that amount and the mean seconds of a call
    private WorkColumn(string name, int priority, string legend, Func<Work, double> amount, Func<double, double, string> text)
    {
        (ColumnName, PriorityInCategory, Legend) = (name, priority, legend);
        (_amount, _text) = (amount, text);
    }

    internal static IColumn[] All { get; } =
    [
        new WorkColumn(
            "Bytes", 0, "Bytes that a call must move, by the traffic formula in the header of the kernel's file",
            work => work.Bytes, (bytes, _) => bytes.ToString("N0", CultureInfo.InvariantCulture)),
        new WorkColumn(
            "GB/s", 1, "These bytes by the mean time, in 10^9 bytes a second",
            work => work.Bytes, (bytes, seconds) => Number(bytes / seconds / 1e9)),
        new WorkColumn(
            "% read", 2, "Of the bytes a second that all cores read from memory, measured by BandwidthProbe in this run",
            work => work.Bytes, (bytes, seconds) => Number(100 * bytes / seconds / MachineBounds.ReadBytesPerSecond)),
        new WorkColumn(
            "GFLOP/s", 3, "Floating-point operations by the mean time, a multiply-add being two",
            work => work.Operations, (operations, seconds) => Number(operations / seconds / 1e9)),
        new WorkColumn(
            "% FMA", 4, "Of the operations a second of all cores in f32, by MultiplyAddProbe in this run; integers may exceed it",
            work => work.Operations, (operations, seconds) => Number(100 * operations / seconds / MachineBounds.OperationsPerSecond)),
    ];

    public string Id => $"{nameof(WorkColumn)}.{ColumnName}";

    public string ColumnName { get; }

    public bool AlwaysShow => true;

    public ColumnCategory Category => ColumnCategory.Metric;

    public int PriorityInCategory { get; }

    public bool IsNumeric => true;

    public UnitType UnitType => UnitType.Dimensionless;

    public string Legend { get; }

    public bool IsAvailable(Summary summary) => summary.BenchmarksCases.Any(benchmark => AmountOf(benchmark) > 0);

    public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase) => GetValue(summary, benchmarkCase, SummaryStyle.Default);

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) =>
        AmountOf(benchmarkCase) is var amount and > 0 && summary[benchmarkCase]?.ResultStatistics is { } statistics
            ? _text(amount, statistics.Mean * 1e-9)
            : None;

    public override string ToString() => ColumnName;

    private static string Number(double value) => value.ToString("0.0", CultureInfo.InvariantCulture);

    // Parameters are set on an instance that is never set up.
    private double AmountOf(BenchmarkCase benchmarkCase)
    {
        if (!typeof(IWorkload).IsAssignableFrom(benchmarkCase.Descriptor.Type))
            return 0;
        var workload = (IWorkload)Activator.CreateInstance(benchmarkCase.Descriptor.Type)!;
        foreach (var parameter in benchmarkCase.Parameters.Items)
            workload.GetType().GetProperty(parameter.Name)?.SetValue(workload, parameter.Value);
        return _amount(workload.WorkOf(benchmarkCase.Descriptor.WorkloadMethod.Name));
    }
}
