namespace KCacheNative.Tests;

/// <summary>Measures what a piece of code allocates on the managed heap.</summary>
public static class AllocatedBytes
{
    private const int Rounds = 5;

    /// <summary>
    /// The least that any of a few runs allocates on this thread. A collection within a run, caused by another thread, retires this
    /// thread's allocation buffer and counts its unused rest; the least of several runs is free of that.
    /// </summary>
    public static long Least(Action action)
    {
        ArgumentNullException.ThrowIfNull(action);
        action();
        long least = long.MaxValue;
        for (int round = 0; round < Rounds; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            action();
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        return least;
    }
}
