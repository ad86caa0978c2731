using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Runtime;

/// <summary>The stem elementwise against plain double-precision references.</summary>
public class OpsElementwiseTests
{
    private ComputeContext _context = null!;
    private Random _random = null!;

    [SetUp]
    public void SetUp()
    {
        _context = new ComputeContext(new ContextOptions { Threads = 2 });
        _random = new Random(7);
    }

    [TearDown]
    public void TearDown() => _context.Dispose();

    [Test]
    public void RmsNorm([Values(1, 3, 17)] int tokens, [Values(1, 7, 64, 576, 1000)] int dim)
    {
        using var x = PoisonedMemory.Random(_context, _random, tokens, dim);
        using var weight = PoisonedMemory.Random(_context, _random, dim);
        using var output = new PoisonedMemory(_context, tokens, dim);
        Ops.RmsNorm(_context, x.Tensor, weight.Tensor, 1e-5f, output.Tensor);
        for (int t = 0; t < tokens; t++)
        {
            double square = 0;
            foreach (float value in x.Tensor.Row(t))
                square += (double)value * value;
            double scale = 1 / Math.Sqrt((square / dim) + 1e-5f);
            for (int i = 0; i < dim; i++)
                Assert.That(output.Tensor.Row(t)[i], Is.EqualTo(x.Tensor.Row(t)[i] * scale * weight.Tensor.Span[i]).Within(4e-6));
        }

        output.AssertMarginsUntouched();
        using var expected = Copy(output.Tensor);
        Ops.RmsNorm(_context, x.Tensor, weight.Tensor, 1e-5f, x.Tensor);
        Assert.That(x.Tensor.Span.SequenceEqual(expected.Tensor.Span), "in place gives the same bits");
    }

    [Test]
    public void Rope([Values] RopePairing pairing, [Values(1, 5)] int tokens, [Values(1, 3)] int heads, [Values(16, 48, 64)] int headDim)
    {
        int pairs = headDim == 48 ? 12 : headDim / 2;
        int[] positions = [.. Enumerable.Range(0, tokens).Select(t => t * 1601)];
        using var frequencies = new PoisonedMemory(_context, pairs);
        for (int p = 0; p < pairs; p++)
            frequencies.Tensor.Span[p] = (float)Math.Pow(10000, -(double)p / pairs);
        using var table = new PoisonedMemory(_context, tokens, pairs, 2);
        using var x = PoisonedMemory.Random(_context, _random, tokens, heads, headDim);
        float[] before = x.Tensor.Span.ToArray();
        Ops.RopeTable(_context, positions, frequencies.Tensor, 1.25f, table.Tensor);
        Ops.Rope(_context, table.Tensor, pairing, x.Tensor);
        for (int t = 0; t < tokens; t++)
        {
            for (int h = 0; h < heads; h++)
            {
                int start = ((t * heads) + h) * headDim;
                for (int p = 0; p < pairs; p++)
                {
                    var (i, j) = pairing == RopePairing.Interleaved ? (2 * p, (2 * p) + 1) : (p, p + pairs);
                    double angle = (double)positions[t] * frequencies.Tensor.Span[p];
                    double c = 1.25 * Math.Cos(angle), s = 1.25 * Math.Sin(angle);
                    double a = before[start + i], b = before[start + j];
                    Assert.That(x.Tensor.Span[start + i], Is.EqualTo((a * c) - (b * s)).Within(1e-6));
                    Assert.That(x.Tensor.Span[start + j], Is.EqualTo((a * s) + (b * c)).Within(1e-6));
                }

                for (int i = 2 * pairs; i < headDim; i++)
                    Assert.That(x.Tensor.Span[start + i], Is.EqualTo(before[start + i]), "elements behind the pairs stay");
            }
        }

        table.AssertMarginsUntouched();
        x.AssertMarginsUntouched();
    }

    [Test]
    public void SwiGluAndAdd([Values(1, 7, 33, 1536)] int columns, [Values(1, 5)] int rows)
    {
        using var gate = PoisonedMemory.Random(_context, _random, rows, columns);
        using var up = PoisonedMemory.Random(_context, _random, rows, columns);
        foreach (ref float value in gate.Tensor.Span)
            value *= 30;
        gate.Tensor.Span[0] = -200;
        using var glu = new PoisonedMemory(_context, rows, columns);
        using var sum = new PoisonedMemory(_context, rows, columns);
        Ops.SwiGlu(_context, gate.Tensor, up.Tensor, glu.Tensor);
        Ops.Add(_context, gate.Tensor, up.Tensor, sum.Tensor);
        for (int i = 0; i < rows * columns; i++)
        {
            double g = gate.Tensor.Span[i], u = up.Tensor.Span[i];
            double expected = g / (1 + Math.Exp(-g)) * u;
            Assert.That(glu.Tensor.Span[i], Is.EqualTo(expected).Within(1e-7 + (2e-6 * Math.Abs(expected))));
            Assert.That(sum.Tensor.Span[i], Is.EqualTo(gate.Tensor.Span[i] + up.Tensor.Span[i]));
        }

        glu.AssertMarginsUntouched();
        sum.AssertMarginsUntouched();
    }

    [Test]
    public void EmbedTakesRows([ValueSource(typeof(WeightBlocks), nameof(WeightBlocks.Types))] GgufTensorType type)
    {
        using var table = new WeightBlocks(_context, _random, type, rows: 11, columns: 96);
        using var output = new PoisonedMemory(_context, 4, 96);
        int[] ids = [10, 0, 3, 10];
        Ops.Embed(_context, table.Matrix, ids, output.Tensor);
        for (int t = 0; t < ids.Length; t++)
        {
            for (int c = 0; c < 96; c++)
                Assert.That(output.Tensor.Row(t)[c], Is.EqualTo(table.Value(ids[t], c)).Within(1e-6));
        }

        output.AssertMarginsUntouched();
    }

    [TestCase(11)]
    [TestCase(-1)]
    public void EmbedNamesAnIdOutsideTheTable(int id)
    {
        using var table = new WeightBlocks(_context, _random, GgufTensorType.F32, rows: 11, columns: 8);
        using var output = new PoisonedMemory(_context, 1, 8);
        var failure = Assert.Throws<KCacheException>(() => Ops.Embed(_context, table.Matrix, [id], output.Tensor))!;
        Assert.That(failure.Status, Is.EqualTo(Status.Argument));
        Assert.That(failure.Message, Does.Contain($"{id}").And.Contain("10"));
    }

    [Test]
    public void Softmax([Values(1, 2, 31, 1000)] int columns)
    {
        using var x = PoisonedMemory.Random(_context, _random, 3, columns);
        foreach (ref float value in x.Tensor.Span)
            value = (value * 20) + 1000;
        using var output = new PoisonedMemory(_context, 3, columns);
        Ops.Softmax(_context, x.Tensor, output.Tensor);
        for (int r = 0; r < 3; r++)
        {
            double largest = double.NegativeInfinity, sum = 0;
            foreach (float value in x.Tensor.Row(r))
                largest = Math.Max(largest, value);
            foreach (float value in x.Tensor.Row(r))
                sum += Math.Exp(value - largest);
            for (int c = 0; c < columns; c++)
                Assert.That(output.Tensor.Row(r)[c], Is.EqualTo(Math.Exp(x.Tensor.Row(r)[c] - largest) / sum).Within(2e-6));
        }

        output.AssertMarginsUntouched();
    }

    [Test]
    public void ArgMaxTakesTheLowestOfEqualsAndPassesOverNaN()
    {
        using var x = new PoisonedMemory(_context, 4, 5);
        float nan = float.NaN;
        float[][] rows =
            [[1, 7, 7, 0, 7], [nan, nan, -3, nan, -3], [nan, nan, nan, nan, nan], [-1, -2, -0.5f, float.NegativeInfinity, -0.5f]];
        for (int r = 0; r < rows.Length; r++)
            rows[r].CopyTo(x.Tensor.Row(r));
        var best = new int[4];
        Ops.ArgMax(_context, x.Tensor, best);
        Assert.That(best, Is.EqualTo(new[] { 1, 2, 0, 2 }));
    }

    [Test]
    public void ImpossibleShapesAreRefusedBeforeTheCall()
    {
        using var x = PoisonedMemory.Random(_context, _random, 2, 8);
        using var narrow = new PoisonedMemory(_context, 2, 7);
        Assert.That(
            () => Ops.Add(_context, x.Tensor, x.Tensor, narrow.Tensor),
            Throws.ArgumentException.With.Message.Contains("2 x 7").And.Message.Contains("2 x 8"));
        Assert.That(
            () => Ops.RmsNorm(_context, x.Tensor, default, 1e-5f, x.Tensor), Throws.ArgumentException.With.Message.Contains("missing"));
        Assert.That(() => Ops.Softmax(_context, x.Tensor, x.Tensor.Take(1)), Throws.ArgumentException);
        Assert.That(() => Ops.ArgMax(_context, x.Tensor, new int[1]), Throws.InstanceOf<ArgumentException>());
    }

    private PoisonedMemory Copy(Tensor tensor)
    {
        var copy = new PoisonedMemory(_context, tensor.Rows, tensor.Columns);
        tensor.Span.CopyTo(copy.Tensor.Span);
        return copy;
    }
}
