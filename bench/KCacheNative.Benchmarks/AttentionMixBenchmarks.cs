using BenchmarkDotNet.Attributes;
using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>Stem attention_mix: the weighted sum of the values of one layer for one decode step, as each policy reads them.</summary>
public class AttentionMixBenchmarks : IWorkload
{
    private ComputeContext _context = null!;
    private CacheLayers _layers = null!;
    private DecodeWave _wave = null!;

    /// <summary>Which values are read, and from where.</summary>
    /// <param name="Name">The policy and what differs within it.</param>
    /// <param name="Values">Codec of the V store; <see cref="Codec.Default"/>: none.</param>
    /// <param name="Keep">Rows that come back exactly; -1: there are no exact rows.</param>
    public sealed record Reading(string Name, Codec Values, int Keep)
    {
        /// <summary>Whether exact rows are read.</summary>
        public bool Keeps => Keep >= 0;

        /// <summary>Whether the others are read too.</summary>
        public bool IsSketch => Keeps && Values != Codec.Default;

        /// <inheritdoc/>
        public override string ToString() => Name;
    }

    /// <summary>Heads.</summary>
    [ParamsSource(nameof(Shapes))]
    public AttentionShape Shape { get; set; } = AttentionShape.SmolLM2;

    /// <summary>Which values are read.</summary>
    [ParamsSource(nameof(Readings))]
    public Reading Read { get; set; } = new("full f16", Codec.F16, -1);

    /// <summary>Tokens of the sequence.</summary>
    [Params(2048, 8192, 32768)]
    public int Tokens { get; set; } = 2048;

    /// <summary>The values of <see cref="Shape"/>.</summary>
    public static IEnumerable<AttentionShape> Shapes => [AttentionShape.SmolLM2, AttentionShape.Llama1B];

    /// <summary>The values of <see cref="Read"/>.</summary>
    public static IEnumerable<Reading> Readings =>
    [
        new("full f16", Codec.F16, -1),
        new("full q8", Codec.Q8, -1),
        new("full q4", Codec.Q4, -1),
        new("full q2", Codec.Q2, -1),
        new("kcache 64", Codec.Default, 64),
        new("sketch q4 32", Codec.Q4, 32),
        new("sketch q3 32", Codec.Q3, 32),
        new("sketch q2 32", Codec.Q2, 32),
    ];

    private LayerStores Stores => new(
        Shape,
        Read.IsSketch ? Codec.Q4 : Codec.F16,
        Read.Values,
        Read.IsSketch ? ExactRows.KeysAndValues : Read.Keeps ? ExactRows.Values : ExactRows.None);

    /// <summary>Appends the rows, scores them and finds the kept ones.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _context = new ComputeContext();
        _layers = new CacheLayers(_context, Stores, Tokens);
        _wave = new DecodeWave(_layers, Math.Max(Read.Keep, 0));
        _wave.Score();
        if (!Read.Keeps)
            return;
        _wave.Select();
        _wave.RestoreAllLayers();
    }

    /// <summary>One layer.</summary>
    [Benchmark]
    public void Mix() => _wave.Mix(Read.IsSketch ? MixModes.Sketched : MixModes.Renormalized, Read.Keeps);

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _wave.Dispose();
        _layers.Dispose();
        _context.Dispose();
    }

    /// <inheritdoc/>
    public Work WorkOf(string benchmark) => Traffic(Stores, Tokens, Read.Keep);

    /// <summary>Per KV head, (rows read) * (bytes of a row) + tokens * 4 * group: the weights of all, for what lies outside too.</summary>
    /// <param name="stores">What a layer keeps.</param>
    /// <param name="tokens">Tokens of the sequence.</param>
    /// <param name="keep">Rows beyond sinks and recent ones that come back exactly; -1: there are no exact rows.</param>
    internal static Work Traffic(LayerStores stores, double tokens, int keep)
    {
        double weights = 4 * stores.Shape.Group;
        double kept = keep < 0 ? 0 : Math.Min(tokens, DecodeWave.Sinks + DecodeWave.Recent + keep);
        double others = stores.Values == Codec.Default ? 0 : tokens - kept;
        return new(stores.Shape.KeyValueHeads
            * ((kept * stores.ExactRowBytes) + (others * stores.RowBytes(stores.Values)) + (tokens * weights)));
    }
}
