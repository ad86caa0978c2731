using System.Buffers.Binary;
using System.Text;

namespace KCacheNative.Formats;

/// <summary>Reads little-endian values from front to back; every read is checked against what remains.</summary>
internal unsafe ref struct GgufCursor(ModelMemory memory)
{
    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly ModelMemory _memory = memory;
    private readonly byte* _start = memory.Pointer;
    private readonly long _length = memory.Length;

    /// <summary>Bytes read so far; never more than the length.</summary>
    internal long Position { get; private set; }

    internal readonly long Remaining => _length - Position;

    /// <summary>What is being read, for messages: set by the caller as it goes, formatted only when something is wrong.</summary>
    internal GgufPlace Place;

    internal readonly ModelFormatException Fail(string defect, string wayOut = ModelFormatException.DownloadAgain) =>
        new(_memory.Name, Place.ToString(), defect, wayOut);

    /// <summary>The next <paramref name="count"/> bytes, in place.</summary>
    internal ReadOnlySpan<byte> Take(int count, string what)
    {
        if (count > Remaining)
            throw Fail($"{what} needs {count} bytes at offset {Position}, but the file ends after {Remaining} more");
        var bytes = new ReadOnlySpan<byte>(_start + Position, count);
        Position += count;
        return bytes;
    }

    internal byte ReadByte(string what) => Take(1, what)[0];

    internal uint ReadUInt32(string what) => BinaryPrimitives.ReadUInt32LittleEndian(Take(4, what));

    internal ulong ReadUInt64(string what) => BinaryPrimitives.ReadUInt64LittleEndian(Take(8, what));

    /// <summary>A count of things that take at least <paramref name="leastBytes"/> bytes each: never more than there is room for.</summary>
    internal int ReadCount(int leastBytes, string what)
    {
        ulong count = ReadUInt64(what);
        ulong most = Math.Min((ulong)(Remaining / leastBytes), (ulong)Array.MaxLength);
        return count <= most
            ? (int)count
            : throw Fail($"{what} is {count}, but the {Remaining} bytes that follow have room for at most {most}");
    }

    /// <summary>A text: its length in bytes, then UTF-8.</summary>
    internal string ReadString(string what)
    {
        ulong length = ReadUInt64(what);
        if (length > (ulong)Math.Min(Remaining, int.MaxValue / 2))
            throw Fail($"{what} is {length} bytes long, but only {Remaining} follow at offset {Position}");
        var bytes = Take((int)length, what);
        try
        {
            return StrictUtf8.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            throw Fail($"{what} at offset {Position - bytes.Length} is not valid UTF-8");
        }
    }
}

/// <summary>A place within a GGUF file.</summary>
/// <param name="Kind">"header", "metadata entry", "tensor", "tensor data".</param>
/// <param name="Index">Its number, or -1.</param>
/// <param name="Name">Its name, where known.</param>
internal readonly record struct GgufPlace(string Kind, long Index = -1, string? Name = null)
{
    public override string ToString() => (Index, Name) switch
    {
        ( < 0, null) => Kind,
        ( < 0, _) => $"{Kind} '{Name}'",
        (_, null) => $"{Kind} {Index}",
        _ => $"{Kind} {Index} '{Name}'",
    };
}
