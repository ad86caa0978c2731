using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

/// <summary>One product of a call of <see cref="Ops.MatMul(ComputeContext, Tensor, ReadOnlySpan{MatMulOutput})"/>.</summary>
/// <param name="Weight">[rows, columns].</param>
/// <param name="Output">[tokens, rows].</param>
/// <param name="Bias">[rows], or the default for none.</param>
/// <param name="Accumulate">Whether the product is added to what <paramref name="Output"/> holds.</param>
public readonly record struct MatMulOutput(Matrix Weight, Tensor Output, Tensor Bias = default, bool Accumulate = false);

// Stem matmul.
public static unsafe partial class Ops
{
    /// <summary>x times the transposed weight (plus bias) (plus what the output holds).</summary>
    /// <param name="context">The context.</param>
    /// <param name="x">[tokens, columns].</param>
    /// <param name="product">The weight and where its product goes.</param>
    public static void MatMul(ComputeContext context, Tensor x, MatMulOutput product) =>
        MatMul(context, x, new ReadOnlySpan<MatMulOutput>(in product));

    /// <summary>
    /// The products of up to four weights that share an input, in one call. On a GPU those of more than 16 tokens are cuBLAS's, where it is
    /// found (<see cref="ComputeContext.CuBlasProblem"/>).
    /// </summary>
    /// <param name="context">The context.</param>
    /// <param name="x">[tokens, columns].</param>
    /// <param name="products">The weights and where their products go.</param>
    public static void MatMul(ComputeContext context, Tensor x, ReadOnlySpan<MatMulOutput> products)
    {
        if (products.Length is < 1 or > NativeMethods.MatmulMaxOutputs)
            throw new ArgumentException(
                $"one to {NativeMethods.MatmulMaxOutputs} products share an input, not {products.Length}", nameof(products));
        var parameters = new KcMatmulParams
        {
            Size = (uint)sizeof(KcMatmulParams),
            NOutputs = products.Length,
            X = x.Data,
            NTokens = x.Rows,
            NCols = x.Columns,
        };
        for (int i = 0; i < products.Length; i++)
        {
            ref readonly var product = ref products[i];
            if (product.Weight.Columns != x.Columns)
                throw new ArgumentException($"weight {i} has {product.Weight.Columns} columns, x has {x.Columns}", nameof(products));
            RequireShape(product.Output, x.Rows, product.Weight.Rows, nameof(products));
            if (!product.Bias.IsEmpty)
                RequireShape(product.Bias, 1, product.Weight.Rows, nameof(products));
            parameters.Outputs[i] = new KcMatmulOutput
            {
                Weight = product.Weight.Native,
                Bias = product.Bias.Data,
                Out = product.Output.Data,
                Accumulate = product.Accumulate ? 1 : 0,
            };
        }

        if (CuBlas.Suits(x, products) && context.CuBlas is { } cuBlas)
        {
            cuBlas.MatMul(x, products);
            return;
        }

        NativeMethods.Matmul(context.Native, &parameters).ThrowIfFailed();
        GC.KeepAlive(context);
    }
}
