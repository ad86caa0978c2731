using System.Buffers.Binary;
using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Runtime;

/// <summary>Random weights in each type of GGUF files, and what their bytes mean, in double precision.</summary>
internal sealed class WeightBlocks : IDisposable
{
    private readonly DeviceBuffer _buffer;
    private readonly GgufTensorTypeInfo _info;
    private readonly int _columns;

    internal WeightBlocks(ComputeContext context, Random random, GgufTensorType type, int rows, int columns)
    {
        GgufTensorTypeInfo.TryGet(type, out _info);
        _columns = columns;
        // One byte off any alignment: files promise none to the kernels.
        _buffer = new DeviceBuffer(context, 1 + ((long)rows * columns / _info.BlockElements * _info.BlockBytes));
        var bytes = Bytes;
        for (int at = 0; at < bytes.Length; at += _info.BlockBytes)
            FillBlock(random, bytes.Slice(at, _info.BlockBytes));
        Matrix = new Matrix(_buffer.Pointer + 1, type, rows, columns);
    }

    internal static GgufTensorType[] Types =>
        [GgufTensorType.F32, GgufTensorType.F16, GgufTensorType.BF16, GgufTensorType.Q8_0, GgufTensorType.Q4_0, GgufTensorType.Q4_1];

    internal Matrix Matrix { get; }

    internal bool IsQuantised => _info.BlockElements > 1;

    private Span<byte> Bytes => _buffer.Span<byte>(1, (int)_buffer.LengthBytes - 1);

    internal double Value(int row, int column)
    {
        long element = ((long)row * _columns) + column;
        var block = Bytes.Slice((int)(element / _info.BlockElements * _info.BlockBytes), _info.BlockBytes);
        int i = (int)(element % _info.BlockElements);
        return _info.Type switch
        {
            GgufTensorType.F32 => BinaryPrimitives.ReadSingleLittleEndian(block),
            GgufTensorType.F16 => (double)BinaryPrimitives.ReadHalfLittleEndian(block),
            GgufTensorType.BF16 => BitConverter.UInt32BitsToSingle((uint)BinaryPrimitives.ReadUInt16LittleEndian(block) << 16),
            GgufTensorType.Q8_0 => Half(block) * (sbyte)block[2 + i],
            GgufTensorType.Q4_0 => Half(block) * (Nibble(block[2..], i) - 8),
            GgufTensorType.Q4_1 => (Half(block) * Nibble(block[4..], i)) + Half(block[2..]),
            _ => throw new NotSupportedException(_info.Type.ToString()),
        };
    }

    public void Dispose() => _buffer.Dispose();

    private static double Half(ReadOnlySpan<byte> bytes) => (double)BinaryPrimitives.ReadHalfLittleEndian(bytes);

    private static int Nibble(ReadOnlySpan<byte> bytes, int i) => i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4;

    private void FillBlock(Random random, Span<byte> block)
    {
        float Number(double size) => (float)(((random.NextDouble() * 2) - 1) * size);
        switch (_info.Type)
        {
            case GgufTensorType.F32:
                BinaryPrimitives.WriteSingleLittleEndian(block, Number(1));
                break;
            case GgufTensorType.F16:
                BinaryPrimitives.WriteHalfLittleEndian(block, (Half)Number(1));
                break;
            case GgufTensorType.BF16:
                BinaryPrimitives.WriteUInt16LittleEndian(block, (ushort)(BitConverter.SingleToUInt32Bits(Number(1)) >> 16));
                break;
            default:
                random.NextBytes(block);
                BinaryPrimitives.WriteHalfLittleEndian(block, (Half)Number(_info.Type == GgufTensorType.Q8_0 ? 0.01 : 0.1));
                if (_info.Type == GgufTensorType.Q4_1)
                    BinaryPrimitives.WriteHalfLittleEndian(block[2..], (Half)Number(0.5));
                break;
        }
    }
}
