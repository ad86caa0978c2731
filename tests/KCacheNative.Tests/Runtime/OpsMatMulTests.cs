using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Runtime;

/// <summary>
/// The stem matmul against a plain double-precision reference, for every type of weights and both treatments of the input.
/// </summary>
public class OpsMatMulTests
{
    private static readonly (int Tokens, int Rows, int Columns)[] Shapes =
        [(1, 1, 32), (1, 131, 576), (2, 17, 64), (3, 64, 96), (7, 33, 1056), (33, 5, 160), (65, 19, 32)];

    [Test]
    public void EqualsTheReference(
        [ValueSource(typeof(WeightBlocks), nameof(WeightBlocks.Types))] GgufTensorType type,
        [Values] Activations activations,
        [ValueSource(nameof(Shapes))] (int Tokens, int Rows, int Columns) shape)
    {
        using var context = new ComputeContext(new ContextOptions { Threads = 2, Activations = activations });
        var random = new Random(shape.Rows);
        using var weight = new WeightBlocks(context, random, type, shape.Rows, shape.Columns);
        using var x = PoisonedMemory.Random(context, random, shape.Tokens, shape.Columns);
        using var bias = PoisonedMemory.Random(context, random, shape.Rows);
        using var output = PoisonedMemory.Random(context, random, shape.Tokens, shape.Rows);
        float[] before = output.Tensor.Span.ToArray();
        Ops.MatMul(context, x.Tensor, new MatMulOutput(weight.Matrix, output.Tensor, bias.Tensor, Accumulate: true));
        bool coded = weight.IsQuantised && activations == Activations.Q8;
        for (int t = 0; t < shape.Tokens; t++)
        {
            var row = x.Tensor.Row(t);
            for (int r = 0; r < shape.Rows; r++)
            {
                double expected = bias.Tensor.Span[r] + before[(t * shape.Rows) + r], allowed = 1e-6;
                for (int c = 0; c < shape.Columns; c++)
                {
                    double w = weight.Value(r, c);
                    expected += w * row[c];
                    allowed += Math.Abs(w * row[c]) * 2e-6;
                    if (coded)
                        allowed += Math.Abs(w) * LargestOfBlock(row, c) * 0.505 / 127;
                }

                Assert.That(output.Tensor.Row(t)[r], Is.EqualTo(expected).Within(allowed), $"token {t}, row {r}");
            }
        }

        output.AssertMarginsUntouched();
    }

    [Test]
    public void SeveralWeightsInOneCallGiveTheBitsOfOneEach([Values] Activations activations)
    {
        using var context = new ComputeContext(new ContextOptions { Threads = 2, Activations = activations });
        var random = new Random(3);
        using var a = new WeightBlocks(context, random, GgufTensorType.Q4_1, 48, 576);
        using var b = new WeightBlocks(context, random, GgufTensorType.Q8_0, 17, 576);
        using var c = new WeightBlocks(context, random, GgufTensorType.F16, 5, 576);
        using var x = PoisonedMemory.Random(context, random, 6, 576);
        using var together = new PoisonedMemory(context, 6 * (48 + 17 + 5));
        using var alone = new PoisonedMemory(context, 6 * (48 + 17 + 5));
        MatMulOutput[] Outputs(Tensor memory) =>
        [
            new(a.Matrix, new Tensor(memory.Pointer, 6, 48)),
            new(b.Matrix, new Tensor(memory.Pointer + (6 * 48 * 4), 6, 17)),
            new(c.Matrix, new Tensor(memory.Pointer + (6 * 65 * 4), 6, 5)),
        ];
        Ops.MatMul(context, x.Tensor, Outputs(together.Tensor));
        foreach (var output in Outputs(alone.Tensor))
            Ops.MatMul(context, x.Tensor, output);
        Assert.That(together.Tensor.Span.SequenceEqual(alone.Tensor.Span));
        Assert.That(together.Tensor.Span.ToArray(), Has.None.NaN);
    }

    [Test]
    public void BitsDependOnNeitherThreadsNorBatch(
        [ValueSource(typeof(WeightBlocks), nameof(WeightBlocks.Types))] GgufTensorType type, [Values] Activations activations)
    {
        const int tokens = 37, rows = 70, columns = 320;
        float[]? first = null;
        foreach (int threads in (int[])[1, 2, 3])
        {
            using var context = new ComputeContext(new ContextOptions { Threads = threads, Activations = activations });
            var random = new Random(11);
            using var weight = new WeightBlocks(context, random, type, rows, columns);
            using var x = PoisonedMemory.Random(context, random, tokens, columns);
            using var output = new PoisonedMemory(context, tokens, rows);
            foreach (int batch in (int[])[tokens, 1, 2, 5, 16])
            {
                for (int t = 0; t < tokens; t += batch)
                {
                    int count = Math.Min(batch, tokens - t);
                    Ops.MatMul(context, x.Tensor.Slice(t, count), new MatMulOutput(weight.Matrix, output.Tensor.Slice(t, count)));
                }

                first ??= output.Tensor.Span.ToArray();
                Assert.That(output.Tensor.Span.SequenceEqual(first), $"{threads} threads, {batch} tokens a call");
            }
        }
    }

    [Test]
    public void AReservedContextAllocatesNothing()
    {
        using var context = new ComputeContext();
        var random = new Random(5);
        using var weight = new WeightBlocks(context, random, GgufTensorType.Q8_0, 40, 576);
        using var x = PoisonedMemory.Random(context, random, 16, 576);
        using var output = new PoisonedMemory(context, 16, 40);
        context.Reserve(16, 576);
        long native = context.Allocations;
        Ops.MatMul(context, x.Tensor, new MatMulOutput(weight.Matrix, output.Tensor));
        long managed = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 1; i <= 16; i++)
            Ops.MatMul(context, x.Tensor.Take(i), new MatMulOutput(weight.Matrix, output.Tensor));
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - managed, Is.Zero);
        Assert.That(context.Allocations, Is.EqualTo(native));
    }

    [Test]
    public void ImpossibleShapesAreRefusedBeforeTheCall()
    {
        using var context = new ComputeContext();
        using var weight = new WeightBlocks(context, new Random(1), GgufTensorType.F32, 4, 8);
        using var x = new PoisonedMemory(context, 2, 8);
        using var output = new PoisonedMemory(context, 2, 4);
        Assert.That(() => Ops.MatMul(context, x.Tensor, new MatMulOutput(weight.Matrix, x.Tensor)), Throws.ArgumentException);
        Assert.That(
            () => Ops.MatMul(context, output.Tensor, new MatMulOutput(weight.Matrix, output.Tensor)),
            Throws.ArgumentException.With.Message.Contains("8 columns"));
        Assert.That(() => Ops.MatMul(context, x.Tensor, new MatMulOutput[5]), Throws.ArgumentException.With.Message.Contains("5"));
        Assert.That(
            () => new Matrix(x.Tensor.Pointer, GgufTensorType.Q4_K, 1, 256), Throws.ArgumentException.With.Message.Contains("Q4_K"));
        Assert.That(() => new Matrix(x.Tensor.Pointer, GgufTensorType.Q8_0, 1, 33), Throws.ArgumentException.With.Message.Contains("33"));
    }

    private static double LargestOfBlock(ReadOnlySpan<float> row, int column)
    {
        double largest = 0;
        foreach (float value in row.Slice(column / 32 * 32, Math.Min(32, row.Length - (column / 32 * 32))))
            largest = Math.Max(largest, Math.Abs(value));
        return largest;
    }
}
