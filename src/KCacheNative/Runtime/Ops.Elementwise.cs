using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

/// <summary>Which two elements of a head the rotary embedding turns together.</summary>
public enum RopePairing
{
    /// <summary>Neighbours: 2p and 2p + 1 (GGUF files of the architecture llama).</summary>
    Interleaved = 0,

    /// <summary>The halves: p and p + pairs (Qwen and most others).</summary>
    Halves = 1,
}

// Stem elementwise.
public static unsafe partial class Ops
{
    /// <summary>Each row divided by its root mean square, times <paramref name="weight"/>.</summary>
    /// <param name="context">The context.</param>
    /// <param name="x">[tokens, dim].</param>
    /// <param name="weight">[dim].</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <param name="output">[tokens, dim]; may be <paramref name="x"/>.</param>
    public static void RmsNorm(ComputeContext context, Tensor x, Tensor weight, float epsilon, Tensor output)
    {
        RequireShape(weight, 1, x.Columns, nameof(weight));
        RequireShape(output, x.Rows, x.Columns, nameof(output));
        NativeMethods.RmsNorm(context.Native, x.Data, weight.Data, x.Rows, x.Columns, epsilon, output.Data).ThrowIfFailed();
        GC.KeepAlive(context);
    }

    /// <summary>Cosine and sine of every position and pair, times <paramref name="magnitude"/>.</summary>
    /// <param name="context">The context.</param>
    /// <param name="positions">A position per token, in memory that kernels can read.</param>
    /// <param name="inverseFrequencies">[pairs].</param>
    /// <param name="magnitude">1, or the attention factor of a rope scaling.</param>
    /// <param name="output">[tokens, pairs, 2].</param>
    public static void RopeTable(
        ComputeContext context, ReadOnlySpan<int> positions, Tensor inverseFrequencies, float magnitude, Tensor output)
    {
        RequireShape(output, positions.Length, 2 * inverseFrequencies.Columns, nameof(output));
        fixed (int* first = positions)
        {
            NativeMethods.RopeTable(
                context.Native, first, inverseFrequencies.Data, positions.Length, inverseFrequencies.Columns, magnitude, output.Data)
                .ThrowIfFailed();
        }

        GC.KeepAlive(context);
    }

    /// <summary>Rotates the first elements of every head, in place.</summary>
    /// <param name="context">The context.</param>
    /// <param name="table">[tokens, pairs, 2], from <see cref="RopeTable"/>.</param>
    /// <param name="pairing">Which elements make a pair.</param>
    /// <param name="x">[tokens, heads, head dimension], rotated in place.</param>
    public static void Rope(ComputeContext context, Tensor table, RopePairing pairing, Tensor x)
    {
        RequireShape(table, x.Rows, table.Columns, nameof(table));
        long pairs = table.Columns / 2;
        NativeMethods.Rope(context.Native, table.Data, x.Rows, x.Heads, x.HeadDimension, pairs, (int)pairing, x.Data).ThrowIfFailed();
        GC.KeepAlive(context);
    }

    /// <summary>gate / (1 + exp(-gate)) * up, element by element.</summary>
    /// <param name="context">The context.</param>
    /// <param name="gate">[tokens, ffn dim].</param>
    /// <param name="up">[tokens, ffn dim].</param>
    /// <param name="output">[tokens, ffn dim]; may be either input.</param>
    public static void SwiGlu(ComputeContext context, Tensor gate, Tensor up, Tensor output)
    {
        RequireShape(up, gate.Rows, gate.Columns, nameof(up));
        RequireShape(output, gate.Rows, gate.Columns, nameof(output));
        NativeMethods.SwiGlu(context.Native, gate.Data, up.Data, gate.Length, output.Data).ThrowIfFailed();
        GC.KeepAlive(context);
    }

    /// <summary>a + b, element by element.</summary>
    /// <param name="context">The context.</param>
    /// <param name="a">[rows, columns].</param>
    /// <param name="b">[rows, columns].</param>
    /// <param name="output">[rows, columns]; may be either input.</param>
    public static void Add(ComputeContext context, Tensor a, Tensor b, Tensor output)
    {
        RequireShape(b, a.Rows, a.Columns, nameof(b));
        RequireShape(output, a.Rows, a.Columns, nameof(output));
        NativeMethods.Add(context.Native, a.Data, b.Data, a.Length, output.Data).ThrowIfFailed();
        GC.KeepAlive(context);
    }

    /// <summary>The row of <paramref name="table"/> for each id, as floats.</summary>
    /// <param name="context">The context.</param>
    /// <param name="table">[vocabulary, dim].</param>
    /// <param name="ids">A token id per row, in memory that kernels can read.</param>
    /// <param name="output">[tokens, dim].</param>
    /// <exception cref="KCacheException">An id lies outside the table.</exception>
    public static void Embed(ComputeContext context, Matrix table, ReadOnlySpan<int> ids, Tensor output)
    {
        RequireShape(output, ids.Length, table.Columns, nameof(output));
        var native = table.Native;
        fixed (int* first = ids)
            NativeMethods.Embed(context.Native, &native, first, ids.Length, output.Data).ThrowIfFailed();
        GC.KeepAlive(context);
    }

    /// <summary>Softmax of each row.</summary>
    /// <param name="context">The context.</param>
    /// <param name="x">[rows, columns].</param>
    /// <param name="output">[rows, columns]; may be <paramref name="x"/>.</param>
    public static void Softmax(ComputeContext context, Tensor x, Tensor output)
    {
        RequireShape(output, x.Rows, x.Columns, nameof(output));
        NativeMethods.Softmax(context.Native, x.Data, x.Rows, x.Columns, output.Data).ThrowIfFailed();
        GC.KeepAlive(context);
    }

    /// <summary>Index of the largest element of each row. Ties: the lower index; NaN ranks last.</summary>
    /// <param name="context">The context.</param>
    /// <param name="x">[rows, columns].</param>
    /// <param name="output">An index per row, in memory that kernels can write.</param>
    public static void ArgMax(ComputeContext context, Tensor x, Span<int> output)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(output.Length, x.Rows, nameof(output));
        fixed (int* first = output)
            NativeMethods.ArgMax(context.Native, x.Data, x.Rows, x.Columns, first).ThrowIfFailed();
        GC.KeepAlive(context);
    }
}
