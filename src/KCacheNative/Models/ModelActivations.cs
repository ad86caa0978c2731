using System.Runtime.InteropServices;
using KCacheNative.Runtime;

namespace KCacheNative.Models;

/// <summary>
/// What a forward writes between its kernels, for up to a batch of tokens, in one buffer that is allocated once. A forward of fewer tokens
/// uses the first rows.
/// </summary>
internal sealed class ModelActivations : IDisposable
{
    private static ulong s_lastReplayKey;

    private readonly DeviceBuffer _buffer;
    private readonly DeviceBuffer _tokens;
    private readonly int[] _positions;
    private readonly bool _hostSeesMemory;
    private DeviceBuffer _logits;
    private float[] _seenLogits; // pinned; empty where the host sees the context's memory

    internal ModelActivations(ComputeContext context, ModelConfig config, int batchTokens, int logitRows)
    {
        BatchTokens = batchTokens;
        Vocabulary = config.VocabularySize;
        _buffer = new DeviceBuffer(context, FloatsPerToken(config) * batchTokens * sizeof(float));
        _tokens = new DeviceBuffer(context, 2L * batchTokens * sizeof(int));
        _positions = new int[batchTokens];
        _hostSeesMemory = context.HostSeesMemory;
        _logits = new DeviceBuffer(context, (long)logitRows * Vocabulary * sizeof(float));
        _seenLogits = SeenLogits(logitRows);
        LogitRows = logitRows;
        ReplayKey = Interlocked.Increment(ref s_lastReplayKey);

        long at = 0;
        Tensor Next(params ReadOnlySpan<int> shape)
        {
            var tensor = _buffer.Tensor(at, shape);
            at += tensor.Length;
            return tensor;
        }

        Residual = Next(batchTokens, config.Dimension);
        Normed = Next(batchTokens, config.Dimension);
        Query = Next(batchTokens, config.QueryHeads, config.HeadDimension);
        Key = Next(batchTokens, config.KeyValueHeads, config.HeadDimension);
        Value = Next(batchTokens, config.KeyValueHeads, config.HeadDimension);
        Attended = Next(batchTokens, config.QueryHeads, config.HeadDimension);
        Gate = Next(batchTokens, config.FeedForwardDimension);
        Up = Next(batchTokens, config.FeedForwardDimension);
        RopeTable = Next(batchTokens, config.RopeDimension);
    }

    internal int BatchTokens { get; }

    internal int LogitRows { get; private set; }

    /// <summary>Names these addresses: no others in this process ever have the same.</summary>
    internal ulong ReplayKey { get; private set; }

    internal Tensor Residual { get; }

    internal Tensor Normed { get; }

    internal Tensor Query { get; }

    internal Tensor Key { get; }

    internal Tensor Value { get; }

    internal Tensor Attended { get; }

    internal Tensor Gate { get; }

    internal Tensor Up { get; }

    internal Tensor RopeTable { get; }

    internal Tensor Logits => _logits.Tensor(0, LogitRows, Vocabulary);

    private int Vocabulary { get; }

    /// <summary>Bytes that a model allocates beside its weights and caches.</summary>
    internal static long Bytes(ModelConfig config, int batchTokens, int logitRows) =>
        (batchTokens * ((FloatsPerToken(config) * sizeof(float)) + (2 * sizeof(int))))
        + ((long)logitRows * config.VocabularySize * sizeof(float));

    /// <summary>Token ids where kernels read them; the host writes them with <see cref="WriteTokens"/>.</summary>
    internal Span<int> Ids(int count) => _tokens.Span<int>(0, count);

    /// <summary>Positions where kernels read them; the host writes them with <see cref="WriteTokens"/>.</summary>
    internal Span<int> Positions(int count) => _tokens.Span<int>(BatchTokens, count);

    /// <summary>Positions to be filled in by the host, for <see cref="WriteTokens"/>.</summary>
    internal Span<int> NewPositions(int count) => _positions.AsSpan(0, count);

    /// <summary>Brings ids and the new positions to where kernels read them.</summary>
    internal void WriteTokens(ReadOnlySpan<int> ids)
    {
        _tokens.Write(0, MemoryMarshal.AsBytes(ids));
        _tokens.Write((long)BatchTokens * sizeof(int), MemoryMarshal.AsBytes(_positions.AsSpan(0, ids.Length)));
    }

    /// <summary>The first rows of the logits where the host reads them: in place, or a copy that is valid until the next.</summary>
    internal Tensor SeeLogits(int rows)
    {
        if (_hostSeesMemory)
            return Logits.Take(rows);
        var seen = _seenLogits.AsSpan(0, rows * Vocabulary);
        _logits.Read(0, MemoryMarshal.AsBytes(seen));
        return LastSeenLogits(rows);
    }

    /// <summary>What <see cref="SeeLogits"/> brought last, without another copy.</summary>
    internal Tensor LastSeenLogits(int rows) =>
        _hostSeesMemory
            ? Logits.Take(rows)
            : new Tensor(Marshal.UnsafeAddrOfPinnedArrayElement(_seenLogits, 0), rows, Vocabulary);

    /// <summary>Makes room for more rows of logits; what they held is lost.</summary>
    internal void GrowLogits(ComputeContext context, int rows)
    {
        if (rows <= LogitRows)
            return;
        var larger = new DeviceBuffer(context, (long)rows * Vocabulary * sizeof(float));
        _logits.Dispose();
        _logits = larger;
        _seenLogits = SeenLogits(rows);
        LogitRows = rows;
        ReplayKey = Interlocked.Increment(ref s_lastReplayKey);
    }

    public void Dispose()
    {
        _buffer.Dispose();
        _tokens.Dispose();
        _logits.Dispose();
    }

    private float[] SeenLogits(int rows) =>
        _hostSeesMemory ? [] : GC.AllocateArray<float>(checked(rows * Vocabulary), pinned: true);

    private static long FloatsPerToken(ModelConfig config) =>
        (2L * config.Dimension)
        + (2L * config.HeadDimension * (config.QueryHeads + config.KeyValueHeads))
        + (2L * config.FeedForwardDimension)
        + config.RopeDimension;
}
