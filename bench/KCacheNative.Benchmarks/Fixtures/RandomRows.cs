using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks.Fixtures;

/// <summary>Random numbers for inputs: cheap to make, the same in every run.</summary>
internal static class RandomRows
{
    /// <summary>Fills memory with numbers of about normal distribution, variance 1.</summary>
    internal static void Fill(Span<float> values, int seed = 1)
    {
        ulong state = 0x9E3779B97F4A7C15 * (ulong)(seed + 1);
        foreach (ref float value in values)
        {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // the sum of four uniform numbers
            ulong sum = (state & 0xFFFF) + ((state >> 16) & 0xFFFF) + ((state >> 32) & 0xFFFF) + (state >> 48);
            value = ((sum / 65536f) - 2f) * 1.7320508f;
        }
    }

    /// <summary>A buffer of random floats.</summary>
    internal static DeviceBuffer Buffer(ComputeContext context, long count, int seed = 1)
    {
        var buffer = new DeviceBuffer(context, count * sizeof(float));
        Fill(buffer.Span<float>(0, checked((int)count)), seed);
        return buffer;
    }
}
