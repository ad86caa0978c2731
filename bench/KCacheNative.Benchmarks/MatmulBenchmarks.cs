using BenchmarkDotNet.Attributes;
using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>
/// Stem matmul: one product of a real model, for a decode step and for a prompt.
/// Each call takes another matrix, so that weights come from memory.
/// </summary>
public class MatmulBenchmarks : IWorkload
{
    private const long ColdBytes = 256L << 20;
    private const int PromptTokens = 128;

    private ComputeContext _context = null!;
    private DeviceBuffer _weights = null!;
    private DeviceBuffer _x = null!;
    private DeviceBuffer _out = null!;
    private Matrix[] _matrices = [];
    private int _next;

    /// <summary>A matrix of a real model.</summary>
    /// <param name="Name">Where it stands.</param>
    /// <param name="Rows">Outputs.</param>
    /// <param name="Columns">Inputs.</param>
    public sealed record Layout(string Name, int Rows, int Columns)
    {
        /// <inheritdoc/>
        public override string ToString() => $"{Name} {Rows}x{Columns}";
    }

    /// <summary>The matrix.</summary>
    [ParamsSource(nameof(Layouts))]
    public Layout Weight { get; set; } = new("SmolLM2 gate", 1536, 576);

    /// <summary>Type of the weights.</summary>
    [Params(GgufTensorType.Q8_0, GgufTensorType.Q4_0, GgufTensorType.F16)]
    public GgufTensorType Type { get; set; } = GgufTensorType.Q8_0;

    /// <summary>The values of <see cref="Weight"/>.</summary>
    public static IEnumerable<Layout> Layouts =>
        [new("SmolLM2 gate", 1536, 576), new("SmolLM2 output", 49152, 576), new("Llama-1B gate", 8192, 2048)];

    private long WeightBytes => RandomWeights.Bytes(Type, Weight.Rows, Weight.Columns);

    /// <summary>Makes the weights.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _context = new ComputeContext();
        int count = (int)Math.Max(1, ColdBytes / WeightBytes);
        _weights = new DeviceBuffer(_context, WeightBytes * count);
        RandomWeights.Fill(_weights.Span<byte>(0, (int)WeightBytes), Type, seed: 1);
        for (int i = 1; i < count; i++)
            _weights.Span<byte>(0, (int)WeightBytes).CopyTo(_weights.Span<byte>(i * WeightBytes, (int)WeightBytes));
        _matrices = [.. Enumerable.Range(0, count).Select(MatrixAt)];
        _x = RandomRows.Buffer(_context, (long)PromptTokens * Weight.Columns);
        _out = new DeviceBuffer(_context, (long)PromptTokens * Weight.Rows * sizeof(float));
        _context.Reserve(PromptTokens, Weight.Columns);
    }

    /// <summary>One token: bound by memory.</summary>
    [Benchmark]
    public void Decode() => Multiply(1);

    /// <summary>128 tokens: bound by arithmetic.</summary>
    [Benchmark]
    public void Prompt() => Multiply(PromptTokens);

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _out.Dispose();
        _x.Dispose();
        _weights.Dispose();
        _context.Dispose();
    }

    /// <inheritdoc/>
    public Work WorkOf(string benchmark) => benchmark == nameof(Decode)
        ? new(Traffic(WeightBytes, 1, Weight.Columns, Weight.Rows))
        : new(0, 2.0 * PromptTokens * Weight.Rows * Weight.Columns);

    /// <summary>Bytes of W once + 4 * n_tokens * (n_cols + n_rows).</summary>
    internal static double Traffic(double weightBytes, double tokens, double columns, double rows) =>
        weightBytes + (4 * tokens * (columns + rows));

    private Matrix MatrixAt(int index) => new(_weights.Pointer + (nint)(index * WeightBytes), Type, Weight.Rows, Weight.Columns);

    private void Multiply(int tokens)
    {
        _next = (_next + 1) % _matrices.Length;
        Ops.MatMul(_context, _x.Tensor(0, tokens, Weight.Columns), new MatMulOutput(_matrices[_next], _out.Tensor(0, tokens, Weight.Rows)));
    }
}
