using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Numerics;

namespace KCacheNative.Formats;

/// <summary>The types of metadata values; the values are those of the GGUF format.</summary>
public enum GgufValueType : uint
{
    UInt8 = 0,
    Int8 = 1,
    UInt16 = 2,
    Int16 = 3,
    UInt32 = 4,
    Int32 = 5,
    Float32 = 6,
    Boolean = 7,
    String = 8,
    Array = 9,
    UInt64 = 10,
    Int64 = 11,
    Float64 = 12,
}

/// <summary>A metadata value: a number, a truth value, a text, or an array of one of these.</summary>
public sealed class GgufValue
{
    private readonly object _content;

    /// <param name="type">The type in the file.</param>
    /// <param name="elementType">The type of the elements of an array.</param>
    /// <param name="content">ulong, long, float, double, bool or string; for arrays the array of the element's own .NET type.</param>
    internal GgufValue(GgufValueType type, GgufValueType? elementType, object content)
    {
        Type = type;
        ElementType = elementType;
        _content = content;
    }

    /// <summary>The type in the file.</summary>
    public GgufValueType Type { get; }

    /// <summary>The type of the elements of an array; null for other values.</summary>
    public GgufValueType? ElementType { get; }

    /// <summary>Elements of an array; 1 for other values.</summary>
    public int Count => _content is Array array ? array.Length : 1;

    /// <summary>The type as text, such as "UInt32" or "String[49152]".</summary>
    public string TypeText => ElementType is { } element ? $"{element}[{Count}]" : Type.ToString();

    /// <summary>The value as a signed integer, from any integer type whose value fits.</summary>
    public bool TryGetInt64(out long value)
    {
        (bool fits, value) = _content switch
        {
            long signed => (true, signed),
            ulong unsigned and <= long.MaxValue => (true, (long)unsigned),
            _ => (false, 0),
        };
        return fits;
    }

    /// <summary>The value as a floating-point number, from either floating-point type or any integer type.</summary>
    public bool TryGetDouble(out double value)
    {
        (bool fits, value) = _content switch
        {
            double number => (true, number),
            float number => (true, (double)number),
            long signed => (true, (double)signed),
            ulong unsigned => (true, (double)unsigned),
            _ => (false, 0.0),
        };
        return fits;
    }

    /// <summary>The value as a truth value.</summary>
    public bool TryGetBoolean(out bool value)
    {
        value = _content is true;
        return _content is bool;
    }

    /// <summary>The value as text.</summary>
    public bool TryGetString([NotNullWhen(true)] out string? value)
    {
        value = _content as string;
        return value is not null;
    }

    /// <summary>The elements of an array of texts.</summary>
    public bool TryGetStrings(out ReadOnlySpan<string> values)
    {
        values = _content as string[];
        return _content is string[];
    }

    /// <summary>The elements of an array of floating-point numbers (Float32).</summary>
    public bool TryGetSingles(out ReadOnlySpan<float> values)
    {
        values = _content as float[];
        return _content is float[];
    }

    /// <summary>The elements of an array of integers of any type, as a new array; false if one does not fit.</summary>
    public bool TryGetInt32s(out int[] values)
    {
        // By the element type of the file: to the runtime, a byte[] is an sbyte[] as well.
        int[]? converted = ElementType switch
        {
            GgufValueType.UInt8 => Array.ConvertAll((byte[])_content, x => (int)x),
            GgufValueType.Int8 => Array.ConvertAll((sbyte[])_content, x => (int)x),
            GgufValueType.UInt16 => Array.ConvertAll((ushort[])_content, x => (int)x),
            GgufValueType.Int16 => Array.ConvertAll((short[])_content, x => (int)x),
            GgufValueType.Int32 => (int[])((int[])_content).Clone(),
            GgufValueType.UInt32 => ConvertAllThatFit((uint[])_content),
            GgufValueType.Int64 => ConvertAllThatFit((long[])_content),
            GgufValueType.UInt64 => ConvertAllThatFit((ulong[])_content),
            _ => null,
        };
        values = converted ?? [];
        return converted is not null;
    }

    /// <summary>The value for a reader; arrays are cut after their first elements.</summary>
    public override string ToString()
    {
        const int shown = 8;
        if (_content is not Array array)
            return Text(_content);
        var elements = Enumerable.Range(0, Math.Min(shown, array.Length)).Select(i => Text(array.GetValue(i)!));
        return $"[{string.Join(", ", elements)}{(array.Length > shown ? ", …" : "")}]";
    }

    private static int[]? ConvertAllThatFit<T>(T[] values)
        where T : IBinaryInteger<T>
    {
        var (least, most) = (T.CreateSaturating(int.MinValue), T.CreateSaturating(int.MaxValue));
        return Array.TrueForAll(values, x => x >= least && x <= most) ? Array.ConvertAll(values, int.CreateChecked) : null;
    }

    private static string Text(object value) => value switch
    {
        bool truth => truth ? "true" : "false",
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => (string)value,
    };
}
