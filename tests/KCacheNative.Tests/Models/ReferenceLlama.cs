using System.Buffers.Binary;
using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Models;

/// <summary>
/// A Llama in plain double precision, straight from the tensors of a file (F32 and Q8_0), with nothing of the library but the reader.
/// </summary>
internal sealed class ReferenceLlama(GgufFile file, ModelConfig config)
{
    /// <summary>Logits behind every token: [tokens][vocabulary].</summary>
    internal double[][] Run(ReadOnlySpan<int> ids)
    {
        var embedding = Matrix("token_embd.weight");
        var x = ids.ToArray().Select(
            id => Enumerable.Range(0, config.Dimension).Select(i => embedding[(id * config.Dimension) + i]).ToArray()).ToArray();
        for (int layer = 0; layer < config.Layers; layer++)
        {
            string Name(string suffix) => $"blk.{layer}.{suffix}";
            var h = x.Select(row => Norm(row, Vector(Name("attn_norm.weight"))!)).ToArray();
            var q = Project(h, Name("attn_q"), config.QueryHeads);
            var k = Project(h, Name("attn_k"), config.KeyValueHeads);
            var v = Product(h, Matrix(Name("attn_v.weight")), Vector(Name("attn_v.bias")));
            var attended = Enumerable.Range(0, x.Length).Select(t => Attend(q[t], k, v, t)).ToArray();
            Add(x, Product(attended, Matrix(Name("attn_output.weight")), Vector(Name("attn_output.bias"))));
            h = x.Select(row => Norm(row, Vector(Name("ffn_norm.weight"))!)).ToArray();
            var gate = Product(h, Matrix(Name("ffn_gate.weight")), null);
            var up = Product(h, Matrix(Name("ffn_up.weight")), null);
            var inner = gate.Zip(up, (g, u) => g.Zip(u, (a, b) => a / (1 + Math.Exp(-a)) * b).ToArray()).ToArray();
            Add(x, Product(inner, Matrix(Name("ffn_down.weight")), null));
        }

        var output = file.TryGetTensor("output.weight", out _) ? Matrix("output.weight") : embedding;
        return Product(x.Select(row => Norm(row, Vector("output_norm.weight")!)).ToArray(), output, null);
    }

    private double[][] Project(double[][] h, string name, int heads)
    {
        var rows = Product(h, Matrix(name + ".weight"), Vector(name + ".bias"));
        var norm = Vector(name + "_norm.weight");
        int size = config.HeadDimension;
        for (int t = 0; t < rows.Length; t++)
        {
            for (int head = 0; head < heads; head++)
            {
                var part = rows[t].AsSpan(head * size, size);
                if (norm is not null)
                    Norm(part.ToArray(), norm).CopyTo(part);
                Rotate(part, t);
            }
        }

        return rows;
    }

    private void Rotate(Span<double> head, int position)
    {
        int pairs = config.RopeDimension / 2;
        for (int p = 0; p < pairs; p++)
        {
            var (i, j) = config.RopePairing == RopePairing.Interleaved ? (2 * p, (2 * p) + 1) : (p, p + pairs);
            double angle = position / (double)config.RopeFactor * Math.Pow(config.RopeBase, -2.0 * p / config.RopeDimension);
            (head[i], head[j]) = (
                (head[i] * Math.Cos(angle)) - (head[j] * Math.Sin(angle)), (head[i] * Math.Sin(angle)) + (head[j] * Math.Cos(angle)));
        }
    }

    private double[] Attend(double[] q, double[][] k, double[][] v, int token)
    {
        int size = config.HeadDimension, group = config.QueryHeads / config.KeyValueHeads;
        var result = new double[config.QueryHeads * size];
        for (int head = 0; head < config.QueryHeads; head++)
        {
            int from = head / group * size;
            var weights = Enumerable.Range(0, token + 1)
                .Select(t => Dot(q.AsSpan(head * size, size), k[t].AsSpan(from, size)) / Math.Sqrt(size)).ToArray();
            double largest = weights.Max(), sum = 0;
            for (int t = 0; t <= token; t++)
                sum += weights[t] = Math.Exp(weights[t] - largest);
            for (int t = 0; t <= token; t++)
            {
                for (int i = 0; i < size; i++)
                    result[(head * size) + i] += weights[t] / sum * v[t][from + i];
            }
        }

        return result;
    }

    private double[] Norm(double[] row, double[] weight)
    {
        double scale = 1 / Math.Sqrt(row.Average(value => value * value) + config.NormEpsilon);
        return row.Zip(weight, (value, w) => value * scale * w).ToArray();
    }

    private static double[][] Product(double[][] x, double[] weight, double[]? bias)
    {
        int columns = x[0].Length, rows = weight.Length / columns;
        var result = new double[x.Length][];
        for (int t = 0; t < x.Length; t++)
        {
            result[t] = new double[rows];
            for (int r = 0; r < rows; r++)
                result[t][r] = Dot(x[t], weight.AsSpan(r * columns, columns)) + (bias?[r] ?? 0);
        }

        return result;
    }

    private static double Dot(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        double sum = 0;
        for (int i = 0; i < a.Length; i++)
            sum += a[i] * b[i];
        return sum;
    }

    private static void Add(double[][] x, double[][] y)
    {
        for (int t = 0; t < x.Length; t++)
        {
            for (int i = 0; i < x[t].Length; i++)
                x[t][i] += y[t][i];
        }
    }

    private static double Q8(ReadOnlySpan<byte> block, int i) => (double)BinaryPrimitives.ReadHalfLittleEndian(block) * (sbyte)block[2 + i];

    private double[]? Vector(string name) => file.TryGetTensor(name, out _) ? Matrix(name) : null;

    private double[] Matrix(string name)
    {
        var tensor = file.GetTensor(name);
        var result = new double[tensor.ElementCount];
        for (int i = 0; i < result.Length; i++)
        {
            result[i] = tensor.Type switch
            {
                GgufTensorType.F32 => BinaryPrimitives.ReadSingleLittleEndian(tensor.Data[(4 * i)..]),
                GgufTensorType.Q8_0 => Q8(tensor.Data.Slice(i / 32 * 34, 34), i % 32),
                _ => throw new NotSupportedException(tensor.ToString()),
            };
        }

        return result;
    }
}
