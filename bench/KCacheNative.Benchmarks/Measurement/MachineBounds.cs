namespace KCacheNative.Benchmarks.Measurement;

/// <summary>What this machine can do at best, measured once in the run that is compared with it.</summary>
internal static class MachineBounds
{
    private static readonly Lazy<double> Bandwidth = new(() => BandwidthProbe.Measure(Environment.ProcessorCount));
    private static readonly Lazy<double> MultiplyAdd = new(() => MultiplyAddProbe.Measure(Environment.ProcessorCount));

    /// <summary>Bytes a second that all cores together read from memory.</summary>
    internal static double ReadBytesPerSecond => Bandwidth.Value;

    /// <summary>Floating-point operations a second of all cores together.</summary>
    internal static double OperationsPerSecond => MultiplyAdd.Value;
}
