using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace KCacheNative.Benchmarks.Measurement;

/// <summary>
/// The rate at which this machine reads memory: all threads sum their shares of an array far larger than the caches. A kernel that must
/// read its data from memory cannot be faster.
/// </summary>
internal static unsafe class BandwidthProbe
{
    private const int Passes = 12;
    private const long ArrayBytes = 1L << 30;
    private const int StepBytes = 8 * 32;

    private static long _sum;

    /// <summary>Bytes a second, of the fastest pass.</summary>
    internal static double Measure(int threads)
    {
        // Smaller only where the machine could not hold it beside the benchmarks.
        long available = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        long share = Math.Min(ArrayBytes, available / 4) / threads / StepBytes * StepBytes;
        byte* array = (byte*)NativeMemory.AlignedAlloc((nuint)(share * threads), 64);
        try
        {
            // The first pass writes: pages that were never written are one and the same page of zeros.
            bool[] written = new bool[threads];
            double seconds = WorkerThreads.FastestPass(threads, Passes, number =>
            {
                byte* mine = array + (number * share);
                if (!written[number])
                {
                    NativeMemory.Fill(mine, (nuint)share, 1);
                    written[number] = true;
                }

                Interlocked.Add(ref _sum, Sum(mine, share));
            });
            return share * threads / seconds;
        }
        finally
        {
            NativeMemory.AlignedFree(array);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static long Sum(byte* data, long bytes)
    {
        Vector256<long> a = default, b = default, c = default, d = default, e = default, f = default, g = default, h = default;
        for (byte* end = data + bytes; data < end; data += StepBytes)
        {
            a += Vector256.LoadAligned((long*)data);
            b += Vector256.LoadAligned((long*)(data + 32));
            c += Vector256.LoadAligned((long*)(data + 64));
            d += Vector256.LoadAligned((long*)(data + 96));
            e += Vector256.LoadAligned((long*)(data + 128));
            f += Vector256.LoadAligned((long*)(data + 160));
            g += Vector256.LoadAligned((long*)(data + 192));
            h += Vector256.LoadAligned((long*)(data + 224));
        }

        return Vector256.Sum(a + b + c + d + e + f + g + h);
    }
}
