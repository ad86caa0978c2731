using KCacheNative.Runtime;

namespace KCacheNative.Models;

/// <summary>
/// What a forward writes between its kernels, for up to a batch of tokens, in one buffer that is allocated once. A forward of fewer tokens
/// uses the first rows.
/// </summary>
internal sealed class ModelActivations : IDisposable
{
    private readonly DeviceBuffer _buffer;
    private readonly DeviceBuffer _tokens;
    private DeviceBuffer _logits;

    internal ModelActivations(ComputeContext context, ModelConfig config, int batchTokens, int logitRows)
    {
        BatchTokens = batchTokens;
        Vocabulary = config.VocabularySize;
        _buffer = new DeviceBuffer(context, FloatsPerToken(config) * batchTokens * sizeof(float));
        _tokens = new DeviceBuffer(context, 2L * batchTokens * sizeof(int));
        _logits = new DeviceBuffer(context, (long)logitRows * Vocabulary * sizeof(float));
        LogitRows = logitRows;

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

    internal Span<int> Ids(int count) => _tokens.Span<int>(0, count);

    internal Span<int> Positions(int count) => _tokens.Span<int>(BatchTokens, count);

    /// <summary>Makes room for more rows of logits; what they held is lost.</summary>
    internal void GrowLogits(ComputeContext context, int rows)
    {
        if (rows <= LogitRows)
            return;
        var larger = new DeviceBuffer(context, (long)rows * Vocabulary * sizeof(float));
        _logits.Dispose();
        _logits = larger;
        LogitRows = rows;
    }

    public void Dispose()
    {
        _buffer.Dispose();
        _tokens.Dispose();
        _logits.Dispose();
    }

    private static long FloatsPerToken(ModelConfig config) =>
        (2L * config.Dimension)
        + (2L * config.HeadDimension * (config.QueryHeads + config.KeyValueHeads))
        + (2L * config.FeedForwardDimension)
        + config.RopeDimension;
}
