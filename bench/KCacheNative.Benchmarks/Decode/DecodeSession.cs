using KCacheNative.Benchmarks.Fixtures;
using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks.Decode;

/// <summary>A model and a cache whose sequences are brought to a depth and then decoded token by token, all together.</summary>
internal sealed class DecodeSession : IDisposable
{
    private const string EmbeddingName = "token_embd.weight";

    private readonly LlamaModel _model;
    private readonly ForwardBatch _batch;
    private readonly int[] _sequences;
    private readonly DeviceBuffer _rows;
    private readonly int[]? _text;
    private readonly Random _random = new(1);
    private int _rowsAt;
    private int _textAt;

    /// <param name="context">What computes.</param>
    /// <param name="file">The model.</param>
    /// <param name="policy">How the cache keeps and reads its rows.</param>
    /// <param name="options">Size of the cache.</param>
    /// <param name="text">Tokens that depths and steps are made of, over and over; null: random rows and random tokens.</param>
    internal DecodeSession(ComputeContext context, GgufFile file, CachePolicy policy, CacheOptions options, int[]? text = null)
    {
        _text = text;
        // Of an embedding that is not the output matrix too, a step reads one row.
        bool isTied = !file.TryGetTensor("output.weight", out _);
        WeightBytes = file.Tensors.Where(tensor => isTied || tensor.Name != EmbeddingName).Sum(tensor => tensor.LengthBytes);
        var shape = ModelConfig.FromGguf(file).CacheShape;
        var resolved = shape.Resolve(options);
        Cache = new KvCache(context, shape, policy, resolved);
        _model = new LlamaModel(context, file, resolved.BatchTokens, resolved.Sequences);
        _batch = new ForwardBatch(resolved.BatchTokens, resolved.Sequences);
        _sequences = [.. Enumerable.Range(0, resolved.Sequences).Select(_ => Cache.CreateSequence())];
        // Rows are taken out of this at ever other places, so that hardly two are the same.
        _rows = RandomRows.Buffer(context, (1 << 21) + (2L * resolved.BatchTokens * RowWidth));
    }

    /// <summary>Bytes of weights that a step reads.</summary>
    internal long WeightBytes { get; }

    /// <summary>The cache.</summary>
    internal KvCache Cache { get; }

    /// <summary>Tokens of each sequence.</summary>
    internal int Depth => Cache.Length(_sequences[0]);

    private int RowWidth => Cache.Shape.KeyValueHeads * Cache.Shape.HeadDimension;

    /// <summary>Appends tokens to every sequence until it has <paramref name="depth"/>.</summary>
    internal void Fill(int depth)
    {
        foreach (int sequence in _sequences)
        {
            while (Cache.Length(sequence) is var past && past < depth)
            {
                int count = Math.Min(_batch.Capacity, depth - past);
                if (_text is null)
                    StoreRows(sequence, count);
                else
                    RunPrompt(sequence, past, count);
            }
        }

        _textAt = depth;
    }

    /// <summary>One token for every sequence, with its logits.</summary>
    internal void Step()
    {
        _batch.Clear();
        foreach (int sequence in _sequences)
            _batch.Add(sequence, [NextToken()], EntryKind.Decode, LogitRows.Last);
        _textAt++;
        _model.Forward(Cache, _batch);
        if (!float.IsFinite(_model.Logits.Span[_random.Next(_model.Config.VocabularySize)]))
            throw new InvalidOperationException("the logits are not finite");
    }

    /// <summary>Takes the steps back.</summary>
    internal void Rewind(int depth)
    {
        foreach (int sequence in _sequences)
            Cache.Truncate(sequence, depth);
    }

    public void Dispose()
    {
        _rows.Dispose();
        _model.Dispose();
        Cache.Dispose();
    }

    private int NextToken() => _text is null ? _random.Next(_model.Config.VocabularySize) : _text[_textAt % _text.Length];

    private void RunPrompt(int sequence, int past, int count)
    {
        int[] ids = [.. Enumerable.Range(past, count).Select(at => _text![at % _text.Length])];
        _batch.Clear();
        _batch.Add(sequence, ids, EntryKind.Prompt, LogitRows.None);
        _model.Forward(Cache, _batch);
    }

    private void StoreRows(int sequence, int count)
    {
        var shape = Cache.Shape;
        Cache.Begin([new BatchEntry(sequence, count, EntryKind.Prompt)]);
        for (int layer = 0; layer < shape.Layers; layer++)
        {
            _rowsAt = (_rowsAt + 7919) % (1 << 21);
            var k = _rows.Tensor(_rowsAt, count, shape.KeyValueHeads, shape.HeadDimension);
            var v = _rows.Tensor(_rowsAt + k.Length, count, shape.KeyValueHeads, shape.HeadDimension);
            Cache.Append(layer, k, v);
        }

        Cache.Commit();
    }
}
