using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Exporters.Json;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Toolchains.InProcess.Emit;

namespace KCacheNative.Benchmarks.Measurement;

/// <summary>
/// How benchmarks run: in this process, since the work is native code that a fresh process would not make more honest, and so that what the
/// machine can do at best is measured in the very run that is compared with it.
/// </summary>
internal static class BenchmarkConfig
{
    private const int LongestParameter = 40;

    internal static IConfig Create() => ManualConfig.Create(DefaultConfig.Instance)
        .AddJob(Job.Default.WithToolchain(new InProcessEmitToolchain(TimeSpan.FromHours(1), true)).AsMutator())
        .AddColumn(WorkColumn.All)
        .WithSummaryStyle(SummaryStyle.Default.WithMaxParameterColumnWidth(LongestParameter))
        .AddExporter(JsonExporter.FullCompressed);
}
