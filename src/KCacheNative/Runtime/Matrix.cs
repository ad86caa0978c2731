using KCacheNative.Formats;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

/// <summary>Weights [rows, columns] as a model file holds them. It owns nothing: whoever made the memory keeps it alive.</summary>
public readonly unsafe struct Matrix
{
    /// <summary>Describes weights in memory; needs no alignment.</summary>
    /// <param name="pointer">The first byte.</param>
    /// <param name="type">How the numbers are stored.</param>
    /// <param name="rows">Rows: outputs of a product, tokens of an embedding.</param>
    /// <param name="columns">Columns: inputs of a product.</param>
    /// <exception cref="ArgumentException">The shape is impossible for the type, or the type is not computed with.</exception>
    public Matrix(nint pointer, GgufTensorType type, long rows, long columns)
    {
        ArgumentOutOfRangeException.ThrowIfZero(pointer);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(rows);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(columns);
        if (!GgufTensorTypeInfo.TryGet(type, out var info) || !info.IsComputable)
            throw new ArgumentException(
                $"weights of type {type} are not computed with; the types are {GgufTensorTypeInfo.ComputableNames}", nameof(type));
        if (columns % info.BlockElements != 0)
            throw new ArgumentException(
                $"{columns} columns are no multiple of the {info.BlockElements} of a block of {type}", nameof(columns));
        Native = new KcMatrix { Data = (void*)pointer, NRows = rows, NCols = columns, Type = (int)type };
    }

    /// <summary>Rows: outputs of a product, tokens of an embedding.</summary>
    public long Rows => Native.NRows;

    /// <summary>Columns: inputs of a product.</summary>
    public long Columns => Native.NCols;

    /// <summary>How the numbers are stored.</summary>
    public GgufTensorType Type => (GgufTensorType)Native.Type;

    /// <summary>Whether this is no matrix.</summary>
    public bool IsEmpty => Native.Data == null;

    internal KcMatrix Native { get; }
}
