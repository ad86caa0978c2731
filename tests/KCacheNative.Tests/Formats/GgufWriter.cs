using System.Buffers.Binary;
using System.Text;
using KCacheNative.Formats;

namespace KCacheNative.Tests.Formats;

/// <summary>What a field of a written file means to the reader; tests damage fields by their kind.</summary>
internal enum FieldKind
{
    Magic,
    Version,
    Count,
    Length,
    ValueType,
    TensorType,
    DimensionCount,
    Dimension,
    Offset,
}

/// <summary>A field of a written file: where it lies and how many bytes it has (4 or 8).</summary>
internal sealed record Field(FieldKind Kind, string Name, int Position, int Size)
{
    public override string ToString() => $"{Name} ({Kind})";
}

/// <summary>Writes small GGUF files and remembers where every field lies.</summary>
internal sealed class GgufWriter(int version = 3)
{
    private readonly List<(string Key, GgufValueType Type, Action<GgufWriter> Write)> _entries = [];
    private readonly List<(string Name, ulong[] Dimensions, uint Type, byte[] Data)> _tensors = [];
    private MemoryStream _stream = new();

    internal List<Field> Fields { get; } = [];

    internal int Alignment { get; private set; } = 32;

    internal GgufWriter Add(string key, GgufValueType type, byte[] value) => Add(key, type, writer => writer._stream.Write(value));

    internal GgufWriter Add(string key, string value) => Add(key, GgufValueType.String, w => w.PutString(key, value));

    internal GgufWriter Add(string key, uint value) => Add(key, GgufValueType.UInt32, w => w.Put32(value));

    internal GgufWriter Add(string key, bool value) => Add(key, GgufValueType.Boolean, [value ? (byte)1 : (byte)0]);

    internal GgufWriter Add(string key, params string[] values) => Add(key, GgufValueType.Array, w =>
    {
        w.PutField(FieldKind.ValueType, key + " element type", (uint)GgufValueType.String);
        w.PutField(FieldKind.Count, key + " count", (ulong)values.Length);
        foreach (string value in values)
            w.PutString(key + " element", value);
    });

    internal GgufWriter Add(string key, params int[] values) =>
        Add(key, GgufValueType.Int32, values.Length, values.SelectMany(BitConverter.GetBytes).ToArray());

    internal GgufWriter Add(string key, GgufValueType elementType, int count, byte[] elements) => Add(key, GgufValueType.Array, w =>
    {
        w.PutField(FieldKind.ValueType, key + " element type", (uint)elementType);
        w.PutField(FieldKind.Count, key + " count", (ulong)count);
        w._stream.Write(elements);
    });

    internal GgufWriter Align(int alignment)
    {
        Alignment = alignment;
        return Add("general.alignment", (uint)alignment);
    }

    internal GgufWriter AddTensor(string name, GgufTensorType type, byte[] data, params ulong[] dimensions)
    {
        _tensors.Add((name, dimensions, (uint)type, data));
        return this;
    }

    internal byte[] ToArray()
    {
        _stream = new MemoryStream();
        Fields.Clear();
        Fields.Add(new Field(FieldKind.Magic, "magic", 0, 4));
        _stream.Write("GGUF"u8);
        PutField(FieldKind.Version, "version", (uint)version);
        PutField(FieldKind.Count, "tensor count", (ulong)_tensors.Count);
        PutField(FieldKind.Count, "entry count", (ulong)_entries.Count);
        foreach (var (key, type, write) in _entries)
        {
            PutString("key " + key, key);
            PutField(FieldKind.ValueType, key + " type", (uint)type);
            write(this);
        }

        ulong offset = 0;
        foreach (var (name, dimensions, type, data) in _tensors)
        {
            PutString("tensor " + name, name);
            PutField(FieldKind.DimensionCount, name + " dimension count", (uint)dimensions.Length);
            foreach (ulong dimension in dimensions)
                PutField(FieldKind.Dimension, name + " dimension", dimension);
            PutField(FieldKind.TensorType, name + " type", type);
            PutField(FieldKind.Offset, name + " offset", offset);
            offset = RoundUp(offset + (ulong)data.Length);
        }

        foreach (var (_, _, _, data) in _tensors)
        {
            while (_stream.Length % Alignment != 0)
                _stream.WriteByte(0xA5);
            _stream.Write(data);
        }

        return _stream.ToArray();
    }

    private ulong RoundUp(ulong offset) => (offset + (ulong)Alignment - 1) / (ulong)Alignment * (ulong)Alignment;

    private GgufWriter Add(string key, GgufValueType type, Action<GgufWriter> write)
    {
        _entries.Add((key, type, write));
        return this;
    }

    private void PutString(string name, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        PutField(FieldKind.Length, name + " length", (ulong)bytes.Length);
        _stream.Write(bytes);
    }

    private void PutField(FieldKind kind, string name, uint value)
    {
        Fields.Add(new Field(kind, name, (int)_stream.Position, 4));
        Put32(value);
    }

    private void PutField(FieldKind kind, string name, ulong value)
    {
        Fields.Add(new Field(kind, name, (int)_stream.Position, 8));
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        _stream.Write(bytes);
    }

    private void Put32(uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        _stream.Write(bytes);
    }
}
