using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;

namespace KCacheNative.Formats;

/// <summary>
/// Reads the header, the metadata and the tensor descriptions of a GGUF file (versions 2 and 3, little-endian). The file is hostile until
/// checked: every count, length, offset and product is bounded by what the file has left before anything is allocated or added up.
/// </summary>
/// <remarks>Source: the format's own description, ggml/docs/gguf.md.</remarks>
internal ref struct GgufReader
{
    /// <summary>A key's length (8), one letter, a type (4), one byte of value.</summary>
    private const int LeastEntryBytes = 14;

    /// <summary>A name's length (8), one letter, the number of dimensions (4), one dimension (8), a type (4), an offset (8).</summary>
    private const int LeastTensorBytes = 33;

    private const int MaxKeyBytes = 65535;
    private const int MaxDimensions = 4;
    private const int DefaultAlignment = 32;
    private const int MaxAlignment = 1 << 16;
    private const int ProgressInterval = 1 << 20;

    private readonly ModelMemory _memory;
    private readonly IProgress<LoadProgress>? _progress;
    private GgufCursor _cursor;
    private long _reported;

    private GgufReader(ModelMemory memory, IProgress<LoadProgress>? progress)
    {
        _memory = memory;
        _progress = progress;
        _cursor = new GgufCursor(memory);
    }

    internal static GgufContents Read(ModelMemory memory, IProgress<LoadProgress>? progress) => new GgufReader(memory, progress).Read();

    private GgufContents Read()
    {
        _cursor.Place = new GgufPlace("header");
        if (!_cursor.Take(4, "the magic number").SequenceEqual("GGUF"u8))
            throw _cursor.Fail("it does not begin with 'GGUF'", "give a model in GGUF format");
        uint version = _cursor.ReadUInt32("the version");
        if (version is not (2 or 3))
        {
            bool swapped = BinaryPrimitives.ReverseEndianness(version) is 1 or 2 or 3;
            throw _cursor.Fail(
                swapped ? "it is in big-endian byte order" : $"its version is {version}",
                "convert it to version 2 or 3 in little-endian byte order");
        }

        ulong tensorCount = _cursor.ReadUInt64("the number of tensors");
        int entryCount = _cursor.ReadCount(LeastEntryBytes, "the number of metadata entries");
        ulong mostTensors = (ulong)(_cursor.Remaining / LeastTensorBytes);
        if (tensorCount > mostTensors)
            throw _cursor.Fail($"the number of tensors is {tensorCount}, but the rest of the file has room for at most {mostTensors}");

        var metadata = ReadMetadata(entryCount);
        int alignment = Alignment(metadata);
        var descriptions = ReadDescriptions((int)Math.Min(tensorCount, int.MaxValue), alignment);
        var tensors = PlaceTensors(descriptions, alignment);
        _progress?.Report(new LoadProgress(_cursor.Position, _memory.Length));
        return new GgufContents((int)version, alignment, metadata, tensors);
    }

    private GgufMetadata ReadMetadata(int count)
    {
        var metadata = new GgufMetadata(_memory.Name);
        for (int i = 0; i < count; i++)
        {
            _cursor.Place = new GgufPlace("metadata entry", i);
            string key = ReadName("the key");
            _cursor.Place = new GgufPlace("metadata entry", i, key);
            var type = (GgufValueType)_cursor.ReadUInt32("the type");
            var value = type == GgufValueType.Array ? ReadArray() : ReadScalar(type);
            if (!metadata.TryAdd(key, value))
                throw _cursor.Fail("the key occurs twice");
            ReportProgress();
        }

        return metadata;
    }

    private string ReadName(string what)
    {
        string name = _cursor.ReadString(what);
        return name.Length switch
        {
            0 => throw _cursor.Fail($"{what} is empty"),
            > MaxKeyBytes => throw _cursor.Fail($"{what} has {name.Length} characters, more than {MaxKeyBytes}"),
            _ => name,
        };
    }

    private GgufValue ReadScalar(GgufValueType type)
    {
        const string what = "the value";
        object content = type switch
        {
            GgufValueType.UInt8 => (ulong)_cursor.ReadByte(what),
            GgufValueType.Int8 => (long)(sbyte)_cursor.ReadByte(what),
            GgufValueType.UInt16 => (ulong)BinaryPrimitives.ReadUInt16LittleEndian(_cursor.Take(2, what)),
            GgufValueType.Int16 => (long)BinaryPrimitives.ReadInt16LittleEndian(_cursor.Take(2, what)),
            GgufValueType.UInt32 => (ulong)_cursor.ReadUInt32(what),
            GgufValueType.Int32 => (long)(int)_cursor.ReadUInt32(what),
            GgufValueType.UInt64 => _cursor.ReadUInt64(what),
            GgufValueType.Int64 => (long)_cursor.ReadUInt64(what),
            GgufValueType.Float32 => BinaryPrimitives.ReadSingleLittleEndian(_cursor.Take(4, what)),
            GgufValueType.Float64 => BinaryPrimitives.ReadDoubleLittleEndian(_cursor.Take(8, what)),
            GgufValueType.Boolean => Truth(_cursor.ReadByte(what)),
            GgufValueType.String => _cursor.ReadString(what),
            _ => throw UnknownType(type),
        };
        return new GgufValue(type, null, content);
    }

    private GgufValue ReadArray()
    {
        var type = (GgufValueType)_cursor.ReadUInt32("the type of the elements");
        object content = type switch
        {
            GgufValueType.UInt8 => ReadElements<byte>(),
            GgufValueType.Int8 => ReadElements<sbyte>(),
            GgufValueType.UInt16 => ReadElements<ushort>(),
            GgufValueType.Int16 => ReadElements<short>(),
            GgufValueType.UInt32 => ReadElements<uint>(),
            GgufValueType.Int32 => ReadElements<int>(),
            GgufValueType.UInt64 => ReadElements<ulong>(),
            GgufValueType.Int64 => ReadElements<long>(),
            GgufValueType.Float32 => ReadElements<float>(),
            GgufValueType.Float64 => ReadElements<double>(),
            GgufValueType.Boolean => ReadTruths(),
            GgufValueType.String => ReadStrings(),
            GgufValueType.Array => throw _cursor.Fail("it is an array of arrays, which is not supported", "remove the key from the file"),
            _ => throw UnknownType(type),
        };
        return new GgufValue(GgufValueType.Array, type, content);
    }

    private T[] ReadElements<T>()
        where T : unmanaged, INumberBase<T>
    {
        int size = Marshal.SizeOf<T>();
        var elements = new T[_cursor.ReadCount(size, "the length of the array")];
        for (int i = 0; i < elements.Length; i++)
            elements[i] = MemoryMarshal.Read<T>(_cursor.Take(size, "an element"));
        return elements;
    }

    private bool[] ReadTruths()
    {
        var elements = new bool[_cursor.ReadCount(1, "the length of the array")];
        for (int i = 0; i < elements.Length; i++)
            elements[i] = Truth(_cursor.ReadByte("an element"));
        return elements;
    }

    private string[] ReadStrings()
    {
        var elements = new string[_cursor.ReadCount(sizeof(ulong), "the length of the array")];
        for (int i = 0; i < elements.Length; i++)
        {
            elements[i] = _cursor.ReadString("an element");
            ReportProgress();
        }

        return elements;
    }

    private readonly bool Truth(byte value) => value <= 1 ? value == 1 : throw _cursor.Fail($"a Boolean is {value}, neither 0 nor 1");

    private readonly ModelFormatException UnknownType(GgufValueType type) =>
        _cursor.Fail($"the value type {(uint)type} is unknown; known are 0 to {(uint)GgufValueType.Float64}");

    private readonly int Alignment(GgufMetadata metadata)
    {
        const string key = "general.alignment";
        if (!metadata.TryGetValue(key, out var value))
            return DefaultAlignment;
        return value.TryGetInt64(out long alignment) && alignment is >= 8 and <= MaxAlignment && BitOperations.IsPow2(alignment)
            ? (int)alignment
            : throw metadata.Invalid(key, $"it holds {value.TypeText} {value}, expected a power of two from 8 to {MaxAlignment}");
    }

    private List<Description> ReadDescriptions(int count, int alignment)
    {
        // The count was bounded before the metadata was read; what is left now bounds it again.
        _cursor.Place = new GgufPlace("tensor descriptions");
        if (count > _cursor.Remaining / LeastTensorBytes)
            throw _cursor.Fail($"{count} tensors are announced, but the {_cursor.Remaining} bytes that follow have no room for them");
        var descriptions = new List<Description>(count);
        var names = new HashSet<string>(count, StringComparer.Ordinal);
        for (int i = 0; i < count; i++)
        {
            _cursor.Place = new GgufPlace("tensor", i);
            string name = ReadName("the name");
            _cursor.Place = new GgufPlace("tensor", i, name);
            if (!names.Add(name))
                throw _cursor.Fail("the name occurs twice");
            descriptions.Add(ReadDescription(name, alignment));
            ReportProgress();
        }

        return descriptions;
    }

    private Description ReadDescription(string name, int alignment)
    {
        uint dimensionCount = _cursor.ReadUInt32("the number of dimensions");
        if (dimensionCount is 0 or > MaxDimensions)
            throw _cursor.Fail($"it has {dimensionCount} dimensions, expected 1 to {MaxDimensions}");
        var dimensions = new long[dimensionCount];
        UInt128 elements = 1;
        for (int d = 0; d < dimensions.Length; d++)
        {
            ulong dimension = _cursor.ReadUInt64("a dimension");
            elements *= dimension;
            if (dimension == 0 || elements > long.MaxValue)
                throw _cursor.Fail($"dimension {d} is {dimension}; the product must lie between 1 and 2^63 - 1");
            dimensions[d] = (long)dimension;
        }

        var type = (GgufTensorType)_cursor.ReadUInt32("the type");
        if (!GgufTensorTypeInfo.TryGet(type, out var info))
            throw _cursor.Fail($"the tensor type {(uint)type} is unknown",
                $"convert the model to one of {GgufTensorTypeInfo.ComputableNames}");
        if (dimensions[0] % info.BlockElements != 0)
            throw _cursor.Fail($"its rows have {dimensions[0]} elements, no multiple of the {info.BlockElements} of a block of {type}");
        UInt128 bytes = elements / (UInt128)info.BlockElements * (UInt128)info.BlockBytes;
        if (bytes > (UInt128)_memory.Length)
            throw _cursor.Fail($"it has {bytes} bytes of {type}, but the whole file has {_memory.Length}");
        ulong offset = _cursor.ReadUInt64("the offset");
        if (offset % (uint)alignment != 0)
            throw _cursor.Fail($"its offset {offset} is no multiple of the alignment {alignment}");
        if (offset > (ulong)_memory.Length)
            throw _cursor.Fail($"its offset is {offset}, but the whole file has {_memory.Length} bytes");
        return new Description(name, dimensions, info, (long)elements, (long)offset, (long)bytes);
    }

    private List<GgufTensor> PlaceTensors(List<Description> descriptions, int alignment)
    {
        // Positions are at most the length of something in memory, so rounding up cannot wrap.
        long dataStart = (_cursor.Position + alignment - 1) / alignment * alignment;
        long dataBytes = Math.Max(0, _memory.Length - dataStart);
        var tensors = new List<GgufTensor>(descriptions.Count);
        for (int i = 0; i < descriptions.Count; i++)
        {
            var d = descriptions[i];
            _cursor.Place = new GgufPlace("tensor", i, d.Name);
            if (d.Offset > dataBytes - d.Bytes)
                throw _cursor.Fail($"its {d.Bytes} bytes at offset {d.Offset} do not lie within the {dataBytes} bytes of tensor data");
            tensors.Add(new GgufTensor(_memory, d.Name, d.Dimensions, d.TypeInfo, d.Elements, dataStart + d.Offset, d.Bytes));
        }

        var byOffset = descriptions.OrderBy(d => d.Offset).ToArray();
        for (int i = 1; i < byOffset.Length; i++)
        {
            var (before, after) = (byOffset[i - 1], byOffset[i]);
            _cursor.Place = new GgufPlace("tensor", -1, after.Name);
            if (before.Offset + before.Bytes > after.Offset)
            {
                throw _cursor.Fail(
                    $"it begins at offset {after.Offset}, within '{before.Name}', which ends at {before.Offset + before.Bytes}");
            }
        }

        return tensors;
    }

    private void ReportProgress()
    {
        if (_progress is null || _cursor.Position - _reported < ProgressInterval)
            return;
        _reported = _cursor.Position;
        _progress.Report(new LoadProgress(_reported, _memory.Length));
    }

    private sealed record Description(
        string Name, long[] Dimensions, GgufTensorTypeInfo TypeInfo, long Elements, long Offset, long Bytes);
}

/// <summary>What <see cref="GgufReader"/> found.</summary>
internal sealed record GgufContents(int Version, int Alignment, GgufMetadata Metadata, IReadOnlyList<GgufTensor> Tensors);
