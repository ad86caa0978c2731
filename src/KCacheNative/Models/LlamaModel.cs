using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Models;

/// <summary>Takes logits as a forward computes them.</summary>
/// <param name="firstRow">Index of the first row among the rows that the batch asked for.</param>
/// <param name="logits">[rows, vocabulary]; valid during the call, and free to be overwritten.</param>
public delegate void LogitsReader(int firstRow, Tensor logits);

/// <summary>
/// A Llama: weights in the mapped file, activations allocated once. Not for concurrent use; the file must stay open until this is disposed.
/// </summary>
public sealed class LlamaModel : IDisposable
{
    internal const string EmbeddingName = "token_embd.weight";

    private const int LogitBytesOfScoring = 16 << 20;

    private readonly ComputeContext _context;
    private readonly ModelWeights _weights;
    private readonly ModelActivations _activations;
    private readonly DeviceBuffer _inverseFrequencies;
    private readonly LlamaLayer[] _layers;
    private readonly CacheShape _cacheShape;
    private readonly Matrix _embedding;
    private readonly Matrix _output;
    private readonly Tensor _outputNorm;
    private int _rows;

    /// <summary>Takes a model from a file.</summary>
    /// <param name="context">What computes.</param>
    /// <param name="file">The model.</param>
    /// <param name="batchTokens">Most tokens of a forward.</param>
    /// <param name="logitRows">Most rows of logits of a forward that reads <see cref="Logits"/>.</param>
    /// <exception cref="ModelFormatException">The file holds something that is not computed here, or lacks something.</exception>
    public LlamaModel(ComputeContext context, GgufFile file, int batchTokens = CacheOptions.DefaultBatchTokens, int logitRows = 1)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batchTokens);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(logitRows);
        _context = context;
        Config = ModelConfig.FromGguf(file);
        _cacheShape = Config.CacheShape;
        _weights = new ModelWeights(context, file);
        try
        {
            _embedding = _weights.Matrix(EmbeddingName, Config.VocabularySize, Config.Dimension);
            _outputNorm = _weights.Vector("output_norm.weight", Config.Dimension);
            _output = _weights.Has("output.weight")
                ? _weights.Matrix("output.weight", Config.VocabularySize, Config.Dimension)
                : _embedding;
            _layers = [.. Enumerable.Range(0, Config.Layers).Select(index => new LlamaLayer(_weights, Config, index))];
            _weights.CheckAllUsed();
            _inverseFrequencies = InverseFrequencies(context, Config);
            _activations = new ModelActivations(context, Config, batchTokens, logitRows);
            int queries = Config.QueryHeads * Config.HeadDimension;
            context.Reserve(batchTokens, Math.Max(Math.Max(Config.Dimension, Config.FeedForwardDimension), queries));
            if (CuBlasBytes(Config, batchTokens, logitRows) is > 0 and var bytes)
                context.CuBlas?.Reserve(bytes);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The shape of the model.</summary>
    public ModelConfig Config { get; }

    /// <summary>What computes.</summary>
    public ComputeContext Context => _context;

    /// <summary>Most tokens of a forward.</summary>
    public int BatchTokens => _activations.BatchTokens;

    /// <summary>The logits of the last forward, if it had no reader: [rows asked for, vocabulary]; valid until the next forward.</summary>
    public Tensor Logits => _activations.LastSeenLogits(Math.Max(_rows, 1));

    /// <summary>
    /// Runs new tokens through all layers. When it returns, the cache has them; after an exception it is as before.
    /// </summary>
    /// <param name="cache">The cache of the sequences.</param>
    /// <param name="batch">The new tokens, and behind which of them logits are wanted.</param>
    /// <param name="reader">Takes the logits in chunks, so that any number of rows needs little memory; null: they lie in
    /// <see cref="Logits"/>.</param>
    /// <param name="progress">Told the number of layers done.</param>
    /// <param name="copies">
    /// Sequences of other caches, as long as that of the batch's one entry, a prompt: they take the same keys and values without attending.
    /// </param>
    /// <param name="cancellationToken">Looked at between layers.</param>
    /// <exception cref="ArgumentException">An id is not in the vocabulary, or the batch does not fit.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    /// <exception cref="KCacheException">The context or the pool is full, or the disk failed.</exception>
    public void Forward(
        KvCache cache,
        ForwardBatch batch,
        LogitsReader? reader = null,
        IProgress<int>? progress = null,
        ReadOnlySpan<PromptCopy> copies = default,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(cache);
        Prepare(cache, batch, reader is not null);
        int n = batch.Tokens;
        int nBegun = 0;
        try
        {
            cache.Begin(batch.Entries);
            for (; nBegun < copies.Length; nBegun++)
                copies[nBegun].Begin(batch.Entries);
            cancellationToken.ThrowIfCancellationRequested();
            bool replayed = IsStep(batch, reader, copies) && cache.BeginReplay(_activations.ReplayKey);
            if (replayed)
                progress?.Report(_layers.Length);
            else
                RunLayers(cache, n, progress, copies, cancellationToken);
            ComputeLogits(cache, batch.RowsOfLogits, replayed, reader, cancellationToken);
            _rows = reader is null ? batch.RowsOfLogits.Length : 0;
            cache.Commit();
            foreach (var copy in copies)
                copy.Cache.Commit();
        }
        catch
        {
            cache.Rollback();
            foreach (var copy in copies[..nBegun])
                copy.Cache.Rollback();
            throw;
        }
    }

    /// <summary>
    /// What cuBLAS, where it is found, takes for forwards of so many tokens. The logits of a text that is scored can take more, up to the
    /// limit of its scratch.
    /// </summary>
    internal static long CuBlasBytes(ModelConfig config, int batchTokens, int logitRows)
    {
        if (batchTokens < CuBlas.LeastTokens)
            return 0;
        int dim = config.Dimension, queries = config.QueryHeads * config.HeadDimension, keys = config.KeyValueHeads * config.HeadDimension;
        long layers = CuBlas.Bytes(
            (queries == keys ? 3 : 1, queries, dim), (2, keys, dim), (1, dim, queries), (2, config.FeedForwardDimension, dim),
            (1, dim, config.FeedForwardDimension));
        return logitRows < CuBlas.LeastTokens ? layers : Math.Max(layers, CuBlas.Bytes((1, config.VocabularySize, dim)));
    }

    /// <summary>Makes room for the logits of more sequences; those of the last forward are lost.</summary>
    internal void ReserveLogits(int rows) => _activations.GrowLogits(_context, rows);

    /// <summary>Frees the activations; the file stays open.</summary>
    public void Dispose()
    {
        _activations?.Dispose();
        _inverseFrequencies?.Dispose();
        _weights.Dispose();
    }

    private static DeviceBuffer InverseFrequencies(ComputeContext context, ModelConfig config)
    {
        int pairs = config.RopeDimension / 2;
        var buffer = new DeviceBuffer(context, pairs * sizeof(float));
        Span<float> values = new float[pairs];
        for (int pair = 0; pair < pairs; pair++)
            values[pair] = (float)(Math.Pow(config.RopeBase, -2.0 * pair / config.RopeDimension) / config.RopeFactor);
        buffer.Write(0, System.Runtime.InteropServices.MemoryMarshal.AsBytes(values));
        return buffer;
    }

    // A decode step as it recurs: the same calls for the same number of tokens, which a backend with graphs replays.
    private bool IsStep(ForwardBatch batch, LogitsReader? reader, ReadOnlySpan<PromptCopy> copies)
    {
        if (reader is not null || !copies.IsEmpty || batch.RowsOfLogits.Length != batch.Tokens)
            return false;
        foreach (ref readonly var entry in batch.Entries)
        {
            if (entry.Kind != EntryKind.Decode || entry.Tokens != 1)
                return false;
        }

        return batch.Tokens < CuBlas.LeastTokens; // cuBLAS works beside the calls that are recorded
    }

    private void RunLayers(
        KvCache cache, int n, IProgress<int>? progress, ReadOnlySpan<PromptCopy> copies, CancellationToken cancellationToken)
    {
        var (x, h) = (_activations.Residual.Take(n), _activations.Normed.Take(n));
        var (q, k, v) = (_activations.Query.Take(n), _activations.Key.Take(n), _activations.Value.Take(n));
        var (gate, up) = (_activations.Gate.Take(n), _activations.Up.Take(n));
        var (attended, rope) = (_activations.Attended.Take(n), _activations.RopeTable.Take(n));

        Ops.RopeTable(_context, _activations.Positions(n), _inverseFrequencies.Tensor(0, Config.RopeDimension / 2), 1, rope);
        Ops.Embed(_context, _embedding, _activations.Ids(n), x);
        for (int index = 0; index < _layers.Length; index++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var layer = _layers[index];
            Ops.RmsNorm(_context, x, layer.AttentionNorm, Config.NormEpsilon, h);
            Ops.MatMul(
                _context,
                h,
                [new(layer.Query, q, layer.QueryBias), new(layer.Key, k, layer.KeyBias), new(layer.Value, v, layer.ValueBias)]);
            NormHeads(q, layer.QueryNorm);
            NormHeads(k, layer.KeyNorm);
            Ops.Rope(_context, rope, Config.RopePairing, q);
            Ops.Rope(_context, rope, Config.RopePairing, k);
            cache.Append(index, k, v);
            foreach (var copy in copies)
                copy.Cache.Append(index, k, v);
            cache.Attend(index, q, attended);
            Ops.MatMul(_context, attended, new MatMulOutput(layer.Output, x, layer.OutputBias, Accumulate: true));

            Ops.RmsNorm(_context, x, layer.FeedForwardNorm, Config.NormEpsilon, h);
            Ops.MatMul(_context, h, [new(layer.Gate, gate), new(layer.Up, up)]);
            Ops.SwiGlu(_context, gate, up, gate);
            Ops.MatMul(_context, gate, new MatMulOutput(layer.Down, x, Accumulate: true));
            progress?.Report(index + 1);
        }
    }

    private void NormHeads(Tensor x, Tensor weight)
    {
        if (!weight.IsEmpty)
            Ops.RmsNorm(_context, x.HeadsAsRows(), weight, Config.NormEpsilon, x.HeadsAsRows());
    }

    private void Prepare(KvCache cache, ForwardBatch batch, bool hasReader)
    {
        ArgumentNullException.ThrowIfNull(batch);
        if (cache.Context != _context || cache.Shape != _cacheShape)
            throw new ArgumentException("the cache was made for another model or another context", nameof(cache));
        if (batch.Tokens == 0)
            throw new ArgumentException("the batch is empty", nameof(batch));
        if (batch.Tokens > BatchTokens)
            throw new ArgumentException(
                $"a batch of {batch.Tokens} tokens exceeds the {BatchTokens} that the model was loaded for", nameof(batch));
        int nLogitRows = batch.RowsOfLogits.Length;
        if (!hasReader && nLogitRows > _activations.LogitRows)
            throw new ArgumentException(
                $"{nLogitRows} rows of logits exceed the {_activations.LogitRows} that the model was loaded for; take them with a reader",
                nameof(batch));
        if (hasReader)
            _activations.GrowLogits(_context, (int)Math.Clamp(LogitBytesOfScoring / sizeof(float) / Config.VocabularySize, 1, BatchTokens));

        foreach (int id in batch.Ids)
        {
            if ((uint)id >= (uint)Config.VocabularySize)
                throw new ArgumentOutOfRangeException(
                    nameof(batch), id, $"the token id is not in the vocabulary of {Config.VocabularySize} tokens");
        }

        var positions = _activations.NewPositions(batch.Tokens);
        int row = 0;
        foreach (ref readonly var entry in batch.Entries)
        {
            int position = cache.Length(entry.Sequence);
            for (int i = 0; i < entry.Tokens; i++)
                positions[row++] = position + i;
        }

        _activations.WriteTokens(batch.Ids);
    }

    private void NormRows(ReadOnlySpan<int> rows, Tensor normed)
    {
        // Adjacent rows go together.
        for (int begin = 0, end; begin < rows.Length; begin = end)
        {
            for (end = begin + 1; end < rows.Length && rows[end] == rows[begin] + end - begin; end++)
            {
            }

            int adjacent = end - begin;
            var x = _activations.Residual.Slice(rows[begin], adjacent);
            Ops.RmsNorm(_context, x, _outputNorm, Config.NormEpsilon, normed.Slice(begin, adjacent));
        }
    }

    private void ComputeLogits(
        KvCache cache, ReadOnlySpan<int> rows, bool replayed, LogitsReader? reader, CancellationToken cancellationToken)
    {
        if (rows.IsEmpty)
            return;
        var h = _activations.Normed.Take(rows.Length);
        if (!replayed)
            NormRows(rows, h);
        for (int first = 0; first < rows.Length; first += _activations.LogitRows)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int count = Math.Min(_activations.LogitRows, rows.Length - first);
            var logits = _activations.Logits.Take(count);
            if (!replayed)
                Ops.MatMul(_context, h.Slice(first, count), new MatMulOutput(_output, logits));
            cache.EndReplay();
            var seen = _activations.SeeLogits(count);
            reader?.Invoke(first, seen);
        }
    }
}
