namespace KCacheNative.Formats;

/// <summary>A tensor of a <see cref="GgufFile"/>: its description, and its bytes in place. Valid until the file is disposed.</summary>
public sealed unsafe class GgufTensor
{
    private readonly ModelMemory _memory;
    private readonly long _start;
    private readonly long[] _dimensions;

    internal GgufTensor(
        ModelMemory memory, string name, long[] dimensions, GgufTensorTypeInfo typeInfo, long elementCount, long start, long lengthBytes)
    {
        _memory = memory;
        _start = start;
        _dimensions = dimensions;
        Name = name;
        TypeInfo = typeInfo;
        ElementCount = elementCount;
        LengthBytes = lengthBytes;
    }

    /// <summary>The name, unique within the file.</summary>
    public string Name { get; }

    /// <summary>Elements along each of 1 to 4 dimensions in GGUF's order: the first is contiguous (a matrix is [columns, rows]).</summary>
    public ReadOnlySpan<long> Dimensions => _dimensions;

    /// <summary>How the elements are stored.</summary>
    public GgufTensorType Type => TypeInfo.Type;

    /// <summary>Block size of the type, and whether the library computes with it.</summary>
    public GgufTensorTypeInfo TypeInfo { get; }

    /// <summary>The product of the dimensions.</summary>
    public long ElementCount { get; }

    /// <summary>Bytes of the tensor's data.</summary>
    public long LengthBytes { get; }

    /// <summary>Bytes from the start of the file to the tensor's data.</summary>
    public long FileOffset => _start;

    /// <summary>Address of the first byte; <see cref="LengthBytes"/> bytes may be read there until the file is disposed.</summary>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public nint Pointer
    {
        get
        {
            ObjectDisposedException.ThrowIf(_memory.IsDisposed, typeof(GgufFile));
            return (nint)(_memory.Pointer + _start);
        }
    }

    /// <summary>The bytes of the tensor, without a copy.</summary>
    /// <exception cref="KCacheException">The tensor is longer than a span can be (2 GiB); use <see cref="Pointer"/>.</exception>
    public ReadOnlySpan<byte> Data => LengthBytes <= int.MaxValue
        ? new ReadOnlySpan<byte>((void*)Pointer, (int)LengthBytes)
        : throw new KCacheException($"tensor '{Name}' has {LengthBytes} bytes, more than a span can hold; use its Pointer.");

    /// <summary>The dimensions as text, such as "576 x 49152".</summary>
    public string DimensionsText => string.Join(" x ", _dimensions);

    /// <inheritdoc/>
    public override string ToString() => $"{Name} [{DimensionsText}] {Type}";
}
