namespace KCacheNative.Runtime;

/// <summary>
/// Floats in unmanaged memory with a shape: rows (tokens), and what a row is made of: one or two dimensions, such as heads and head
/// dimension. Rows are adjacent. It owns nothing: whoever made the memory keeps it alive.
/// </summary>
public readonly unsafe struct Tensor
{
    private readonly float* _data;
    private readonly int _dimension1;
    private readonly int _dimension2;

    /// <summary>Describes memory.</summary>
    /// <param name="pointer">The first float.</param>
    /// <param name="shape">One to three dimensions, each at least 1, the slowest first; a single one is a row vector.</param>
    public Tensor(nint pointer, params ReadOnlySpan<int> shape)
    {
        if (shape.Length is < 1 or > 3)
            throw new ArgumentException($"a tensor has one to three dimensions, not {shape.Length}", nameof(shape));
        foreach (int size in shape)
            ArgumentOutOfRangeException.ThrowIfNegativeOrZero(size, nameof(shape));
        _data = (float*)pointer;
        Rows = shape.Length == 1 ? 1 : shape[0];
        _dimension1 = shape.Length == 1 ? shape[0] : shape[1];
        _dimension2 = shape.Length == 3 ? shape[2] : 1;
    }

    private Tensor(float* data, int rows, int dimension1, int dimension2)
    {
        _data = data;
        Rows = rows;
        _dimension1 = dimension1;
        _dimension2 = dimension2;
    }

    /// <summary>Rows, the slowest dimension.</summary>
    public int Rows { get; }

    /// <summary>Floats of a row.</summary>
    public int Columns => _dimension1 * Math.Max(_dimension2, 1);

    /// <summary>Heads of a row, for tensors of three dimensions; else the columns.</summary>
    public int Heads => _dimension1;

    /// <summary>Floats of a head, for tensors of three dimensions; else 1.</summary>
    public int HeadDimension => _dimension2;

    /// <summary>All floats.</summary>
    public long Length => (long)Rows * Columns;

    /// <summary>The first float; 0 for the default tensor, which stands for none.</summary>
    public nint Pointer => (nint)_data;

    /// <summary>Whether this is no tensor (an absent bias, say).</summary>
    public bool IsEmpty => _data == null;

    /// <summary>The numbers, in place; on the CPU only.</summary>
    public Span<float> Span => new(_data, checked((int)Length));

    /// <summary>The shape as text, such as "3 x 9 x 64".</summary>
    public string ShapeText => _dimension2 > 1 ? $"{Rows} x {_dimension1} x {_dimension2}" : $"{Rows} x {_dimension1}";

    internal float* Data => _data;

    /// <summary>The numbers of a row, in place; on the CPU only.</summary>
    public Span<float> Row(int row)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)row, (uint)Rows, nameof(row));
        return new Span<float>(_data + ((long)row * Columns), Columns);
    }

    /// <summary>Some of the rows.</summary>
    /// <param name="first">The first row.</param>
    /// <param name="count">How many, at least 1.</param>
    public Tensor Slice(int first, int count)
    {
        if (first < 0 || count < 1 || first > Rows - count)
            throw new ArgumentOutOfRangeException(nameof(count), $"rows {first} to {first + count} of a tensor with {Rows} rows");
        return new Tensor(_data + ((long)first * Columns), count, _dimension1, _dimension2);
    }

    /// <summary>The first rows.</summary>
    /// <param name="count">How many, at least 1.</param>
    public Tensor Take(int count) => Slice(0, count);

    /// <summary>The same numbers with each head as a row of its own.</summary>
    public Tensor HeadsAsRows() => new(_data, checked(Rows * _dimension1), _dimension2, 1);
}
