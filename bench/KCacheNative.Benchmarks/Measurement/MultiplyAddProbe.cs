using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KCacheNative.Benchmarks.Measurement;

/// <summary>
/// The rate of this machine's floating-point units: all threads multiply and add in registers, in as many independent chains as hide the
/// latency. A kernel in f32 cannot be faster; one that multiplies 8-bit integers can.
/// </summary>
internal static class MultiplyAddProbe
{
    private const int Passes = 8;
    private const int Steps = 4_000_000;
    private const int Chains = 12;

    private static float _sum;

    /// <summary>Operations a second, a multiply-add being two: the better of 256 and 512 bits wide.</summary>
    internal static double Measure(int threads)
    {
        double best = Rate(threads, Vector256<float>.Count, Chain256);
        return Vector512.IsHardwareAccelerated ? Math.Max(best, Rate(threads, Vector512<float>.Count, Chain512)) : best;
    }

    private static double Rate(int threads, int lanes, Func<int, float> chain)
    {
        double seconds = WorkerThreads.FastestPass(threads, Passes, _ => _sum = chain(Steps));
        return 2.0 * lanes * Chains * Steps * threads / seconds;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Chain256(int steps)
    {
        Vector256<float> x = Vector256.Create(0.999f), y = Vector256.Create(0.001f);
        Vector256<float> a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y, i = y, j = y, k = y, l = y;
        for (int step = 0; step < steps; step++)
        {
            a = Vector256.MultiplyAddEstimate(a, x, y);
            b = Vector256.MultiplyAddEstimate(b, x, y);
            c = Vector256.MultiplyAddEstimate(c, x, y);
            d = Vector256.MultiplyAddEstimate(d, x, y);
            e = Vector256.MultiplyAddEstimate(e, x, y);
            f = Vector256.MultiplyAddEstimate(f, x, y);
            g = Vector256.MultiplyAddEstimate(g, x, y);
            h = Vector256.MultiplyAddEstimate(h, x, y);
            i = Vector256.MultiplyAddEstimate(i, x, y);
            j = Vector256.MultiplyAddEstimate(j, x, y);
            k = Vector256.MultiplyAddEstimate(k, x, y);
            l = Vector256.MultiplyAddEstimate(l, x, y);
        }

        return Vector256.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Chain512(int steps)
    {
        Vector512<float> x = Vector512.Create(0.999f), y = Vector512.Create(0.001f);
        Vector512<float> a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y, i = y, j = y, k = y, l = y;
        for (int step = 0; step < steps; step++)
        {
            a = Vector512.MultiplyAddEstimate(a, x, y);
            b = Vector512.MultiplyAddEstimate(b, x, y);
            c = Vector512.MultiplyAddEstimate(c, x, y);
            d = Vector512.MultiplyAddEstimate(d, x, y);
            e = Vector512.MultiplyAddEstimate(e, x, y);
            f = Vector512.MultiplyAddEstimate(f, x, y);
            g = Vector512.MultiplyAddEstimate(g, x, y);
            h = Vector512.MultiplyAddEstimate(h, x, y);
            i = Vector512.MultiplyAddEstimate(i, x, y);
            j = Vector512.MultiplyAddEstimate(j, x, y);
            k = Vector512.MultiplyAddEstimate(k, x, y);
            l = Vector512.MultiplyAddEstimate(l, x, y);
        }

        return Vector512.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }
}
