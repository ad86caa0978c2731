using System.Buffers.Binary;
using System.Runtime.InteropServices;
using KCacheNative.Formats;

namespace KCacheNative.Benchmarks.Fixtures;

/// <summary>Random weights as GGUF files hold them, of about the size that those of trained models have.</summary>
internal static class RandomWeights
{
    private const float Size = 0.02f;

    /// <summary>Bytes of a matrix.</summary>
    internal static long Bytes(GgufTensorType type, long rows, long columns) =>
        GgufTensorTypeInfo.TryGet(type, out var info) && columns % info.BlockElements == 0
            ? rows * columns / info.BlockElements * info.BlockBytes
            : throw new ArgumentException($"{columns} columns of {type} are no whole number of blocks");

    /// <summary>Fills memory with a whole number of blocks.</summary>
    internal static void Fill(Span<byte> data, GgufTensorType type, int seed)
    {
        switch (type)
        {
            case GgufTensorType.F16:
                foreach (ref var value in MemoryMarshal.Cast<byte, Half>(data))
                    value = (Half)(Size * Uniform(ref seed));
                break;
            case GgufTensorType.Q8_0:
                FillBlocks(data, 34, Size / 64, seed);
                break;
            case GgufTensorType.Q4_0:
                FillBlocks(data, 18, Size / 4, seed);
                break;
            default:
                throw new NotSupportedException($"weights of {type} are not made here");
        }
    }

    // Blocks of a scale and codes.
    private static void FillBlocks(Span<byte> data, int blockBytes, float scale, int seed)
    {
        new Random(seed).NextBytes(data);
        for (int at = 0; at < data.Length; at += blockBytes)
            BinaryPrimitives.WriteHalfLittleEndian(data[at..], (Half)scale);
    }

    private static float Uniform(ref int state)
    {
        state = (state * 1664525) + 1013904223;
        return state / 2147483648f * 1.7320508f;
    }
}
