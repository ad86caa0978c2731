using BenchmarkDotNet.Attributes;
using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>Stem elementwise: the small kernels at the sizes of SmolLM2-135M. Their data lies in the caches, as it does in a model.</summary>
public class ElementwiseBenchmarks : IWorkload
{
    private const int Heads = 9, HeadDimension = 64, Dimension = Heads * HeadDimension, FeedForward = 1536, Vocabulary = 49152;

    private ComputeContext _context = null!;
    private DeviceBuffer _memory = null!;
    private DeviceBuffer _table = null!;
    private DeviceBuffer _tokens = null!;
    private Tensor _x, _y, _out, _gate, _up, _activated, _logits, _probabilities, _frequencies, _rope, _heads;
    private Matrix _embedding;

    private Span<int> Ids => _tokens.Span<int>(0, Tokens);

    private Span<int> Indices => _tokens.Span<int>(Tokens, Tokens);

    /// <summary>Tokens: of a decode step, of a prompt.</summary>
    [Params(1, 128)]
    public int Tokens { get; set; } = 1;

    /// <summary>Makes the inputs.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _context = new ComputeContext();
        long floats = ((long)Tokens * ((4 * Dimension) + (3 * FeedForward) + (2 * Vocabulary) + HeadDimension)) + HeadDimension;
        _memory = RandomRows.Buffer(_context, floats);
        long at = 0;
        Tensor Next(params ReadOnlySpan<int> shape)
        {
            var tensor = _memory.Tensor(at, shape);
            at += tensor.Length;
            return tensor;
        }

        _x = Next(Tokens, Dimension);
        _y = Next(Tokens, Dimension);
        _out = Next(Tokens, Dimension);
        _heads = Next(Tokens, Heads, HeadDimension);
        _gate = Next(Tokens, FeedForward);
        _up = Next(Tokens, FeedForward);
        _activated = Next(Tokens, FeedForward);
        _logits = Next(Tokens, Vocabulary);
        _probabilities = Next(Tokens, Vocabulary);
        _rope = Next(Tokens, HeadDimension);
        _frequencies = Next(HeadDimension / 2);
        _tokens = new DeviceBuffer(_context, 2L * Tokens * sizeof(int));
        Ids.Fill(Vocabulary / 2);
        RopeTable();
        long tableBytes = RandomWeights.Bytes(GgufTensorType.Q8_0, Vocabulary, Dimension);
        _table = new DeviceBuffer(_context, tableBytes);
        RandomWeights.Fill(_table.Span<byte>(0, (int)tableBytes), GgufTensorType.Q8_0, seed: 1);
        _embedding = new Matrix(_table.Pointer, GgufTensorType.Q8_0, Vocabulary, Dimension);
    }

    /// <summary>[tokens, 576].</summary>
    [Benchmark]
    public void RmsNorm() => Ops.RmsNorm(_context, _x, _y.Take(1), 1e-5f, _out);

    /// <summary>[tokens, 32, 2]: sines in double.</summary>
    [Benchmark]
    public void RopeTable() => Ops.RopeTable(_context, Ids, _frequencies, 1, _rope);

    /// <summary>[tokens, 9, 64], neighbours.</summary>
    [Benchmark]
    public void RopeInterleaved() => Ops.Rope(_context, _rope, RopePairing.Interleaved, _heads);

    /// <summary>[tokens, 9, 64], halves.</summary>
    [Benchmark]
    public void RopeHalves() => Ops.Rope(_context, _rope, RopePairing.Halves, _heads);

    /// <summary>[tokens, 1536].</summary>
    [Benchmark]
    public void SwiGlu() => Ops.SwiGlu(_context, _gate, _up, _activated);

    /// <summary>[tokens, 576].</summary>
    [Benchmark]
    public void Add() => Ops.Add(_context, _x, _y, _out);

    /// <summary>[tokens, 576] out of a table in Q8_0.</summary>
    [Benchmark]
    public void Embed() => Ops.Embed(_context, _embedding, Ids, _out);

    /// <summary>[tokens, 49152].</summary>
    [Benchmark]
    public void Softmax() => Ops.Softmax(_context, _logits, _probabilities);

    /// <summary>[tokens, 49152].</summary>
    [Benchmark]
    public void ArgMax() => Ops.ArgMax(_context, _logits, Indices);

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _tokens.Dispose();
        _table.Dispose();
        _memory.Dispose();
        _context.Dispose();
    }

    /// <summary>4 bytes for every float in and out; embed: bytes of the rows + 4 for every float out.</summary>
    public Work WorkOf(string benchmark) => benchmark switch
    {
        nameof(RmsNorm) => Floats(2 * Dimension),
        nameof(RopeTable) => Floats(HeadDimension),
        nameof(RopeInterleaved) or nameof(RopeHalves) => Floats((2 * Dimension) + HeadDimension),
        nameof(SwiGlu) => Floats(3 * FeedForward),
        nameof(Add) => Floats(3 * Dimension),
        nameof(Embed) => new(Tokens * (RandomWeights.Bytes(GgufTensorType.Q8_0, 1, Dimension) + (4.0 * Dimension))),
        nameof(Softmax) => Floats(2 * Vocabulary),
        nameof(ArgMax) => Floats(Vocabulary),
        _ => throw new ArgumentOutOfRangeException(nameof(benchmark), benchmark, "it has no formula"),
    };

    private Work Floats(double perToken) => new(4 * Tokens * perToken);
}
