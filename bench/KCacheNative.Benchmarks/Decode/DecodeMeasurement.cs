using System.Diagnostics;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks.Decode;

/// <summary>How long a measurement takes.</summary>
/// <param name="Steps">Steps of a repetition.</param>
/// <param name="Repetitions">Repetitions, each from the same depth where the cache can go back.</param>
/// <param name="WarmUp">Steps that are left out before the first.</param>
internal sealed record DecodePace(int Steps, int Repetitions, int WarmUp)
{
    /// <summary>Tokens that a sequence grows beyond its depth.</summary>
    internal int Room => WarmUp + (Steps * Repetitions);
}

/// <summary>Times decode steps at a depth.</summary>
internal static class DecodeMeasurement
{
    /// <summary>Fills the cache up to <paramref name="depth"/> and times the steps behind it.</summary>
    /// <param name="session">What decodes; its depth is at most this one, and more afterwards where it cannot go back.</param>
    /// <param name="depth">Tokens before the first step.</param>
    /// <param name="pace">How many steps.</param>
    /// <param name="goesBack">Whether each repetition starts at the depth again; without, it goes on where the last one ended.</param>
    internal static DecodeFigures Run(DecodeSession session, int depth, DecodePace pace, bool goesBack)
    {
        long begin = Stopwatch.GetTimestamp();
        session.Fill(depth);
        double fillSeconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        for (int i = 0; i < pace.WarmUp; i++)
            session.Step();
        GC.Collect();

        var load = new MachineLoad();
        session.Cache.ResetStatistics();
        var steps = new double[pace.Repetitions * pace.Steps];
        var rates = new double[pace.Repetitions];
        var cpuRates = new double[pace.Repetitions];
        double meanDepth = 0;
        int sequences = session.Cache.Options.Sequences, threads = session.Cache.Context.Info.Threads;
        for (int repetition = 0; repetition < pace.Repetitions; repetition++)
        {
            if (goesBack)
                session.Rewind(depth);
            meanDepth += (session.Depth + ((pace.Steps + 1) / 2.0)) / pace.Repetitions;
            var cpu = Environment.CpuUsage.TotalTime;
            double seconds = 0;
            for (int step = 0; step < pace.Steps; step++)
            {
                long start = Stopwatch.GetTimestamp();
                session.Step();
                seconds += steps[(repetition * pace.Steps) + step] = Stopwatch.GetElapsedTime(start).TotalSeconds;
            }

            rates[repetition] = pace.Steps * sequences / seconds;
            double cpuSeconds = (Environment.CpuUsage.TotalTime - cpu).TotalSeconds;
            cpuRates[repetition] = pace.Steps * sequences * threads / cpuSeconds;
        }

        var statistics = session.Cache.Statistics();
        double? others = load.OthersShare;
        if (goesBack)
            session.Rewind(depth);
        Array.Sort(steps);
        Array.Sort(rates);
        Array.Sort(cpuRates);
        return new DecodeFigures(
            depth, meanDepth, fillSeconds, steps, rates, cpuRates, statistics, session.Cache.Memory, session.WeightBytes, others);
    }
}
