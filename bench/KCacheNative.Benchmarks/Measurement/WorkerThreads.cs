using System.Diagnostics;

namespace KCacheNative.Benchmarks.Measurement;

/// <summary>Runs one pass of a probe on several threads at once.</summary>
internal static class WorkerThreads
{
    /// <summary>Runs every pass on all threads and returns the seconds of the fastest, from the common start to the last end.</summary>
    /// <param name="threads">Threads.</param>
    /// <param name="passes">Passes; the first one warms up and does not count.</param>
    /// <param name="work">Does the share of one thread, by its number.</param>
    internal static double FastestPass(int threads, int passes, Action<int> work)
    {
        using var start = new Barrier(threads + 1);
        using var end = new Barrier(threads + 1);
        var workers = new Thread[threads];
        for (int i = 0; i < threads; i++)
        {
            int number = i;
            workers[i] = new Thread(() =>
            {
                for (int pass = 0; pass < passes; pass++)
                {
                    start.SignalAndWait();
                    work(number);
                    end.SignalAndWait();
                }
            });
            workers[i].Start();
        }

        double fastest = double.PositiveInfinity;
        for (int pass = 0; pass < passes; pass++)
        {
            start.SignalAndWait();
            long begin = Stopwatch.GetTimestamp();
            end.SignalAndWait();
            if (pass > 0)
                fastest = Math.Min(fastest, Stopwatch.GetElapsedTime(begin).TotalSeconds);
        }

        foreach (var worker in workers)
            worker.Join();
        return fastest;
    }
}
