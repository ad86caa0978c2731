namespace KCacheNative.Benchmarks.Decode;

/// <summary>How much of the machine other processes used since this was made: figures taken beside others are worth little.</summary>
internal sealed class MachineLoad
{
    private const string StatisticsFile = "/proc/stat";
    private const double TicksPerSecond = 100;

    private readonly (double Busy, double All) _start = Read();
    private readonly TimeSpan _own = Environment.CpuUsage.TotalTime;

    /// <summary>The share of all cores, from 0 to 1; null where the system does not tell.</summary>
    internal double? OthersShare
    {
        get
        {
            if (!File.Exists(StatisticsFile))
                return null;
            var (busy, all) = Read();
            double own = (Environment.CpuUsage.TotalTime - _own).TotalSeconds;
            return Math.Clamp((busy - _start.Busy - own) / Math.Max(all - _start.All, 1 / TicksPerSecond), 0, 1);
        }
    }

    // user nice system idle iowait irq softirq steal
    private static (double Busy, double All) Read()
    {
        if (!File.Exists(StatisticsFile))
            return default;
        string line = File.ReadLines(StatisticsFile).First();
        double[] ticks = [.. line.Split(' ', StringSplitOptions.RemoveEmptyEntries).Skip(1).Take(8).Select(double.Parse)];
        double all = ticks.Sum() / TicksPerSecond;
        return (all - ((ticks[3] + ticks[4]) / TicksPerSecond), all);
    }
}
