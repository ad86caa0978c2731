using KCacheNative.Formats;
using KCacheNative.Tests.Formats;

namespace KCacheNative.Tests.Models;

/// <summary>
/// A Llama of two layers with random weights that has everything at once: own output head, heads that do not add up to the dimension,
/// grouped heads, biases, norms of q and k, linear rope scaling, a partial rotation.
/// </summary>
internal sealed class TinyLlama
{
    internal const int Vocabulary = 37, Dimension = 40, Layers = 2, QueryHeads = 6, KeyValueHeads = 2, HeadDimension = 16, FeedForward = 56;

    private readonly Dictionary<string, Action<GgufWriter, string>> _keys = [];
    private readonly Dictionary<string, int[]> _tensors = [];

    internal TinyLlama()
    {
        Set("general.architecture", "llama");
        Set("llama.block_count", Layers);
        Set("llama.context_length", 256);
        Set("llama.embedding_length", Dimension);
        Set("llama.feed_forward_length", FeedForward);
        Set("llama.attention.head_count", QueryHeads);
        Set("llama.attention.head_count_kv", KeyValueHeads);
        Set("llama.attention.key_length", HeadDimension);
        Set("llama.attention.value_length", HeadDimension);
        Set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
        Set("llama.rope.dimension_count", 12);
        Set("llama.rope.freq_base", 5000f);
        Set("llama.rope.scaling.type", "linear");
        Set("llama.rope.scaling.factor", 4f);
        _tensors["token_embd.weight"] = [Dimension, Vocabulary];
        _tensors["output_norm.weight"] = [Dimension];
        _tensors["output.weight"] = [Dimension, Vocabulary];
        for (int layer = 0; layer < Layers; layer++)
        {
            foreach (var (name, shape) in (ReadOnlySpan<(string, int[])>)[
                ("attn_norm.weight", [Dimension]),
                ("attn_q.weight", [Dimension, QueryHeads * HeadDimension]),
                ("attn_q.bias", [QueryHeads * HeadDimension]),
                ("attn_q_norm.weight", [HeadDimension]),
                ("attn_k.weight", [Dimension, KeyValueHeads * HeadDimension]),
                ("attn_k.bias", [KeyValueHeads * HeadDimension]),
                ("attn_k_norm.weight", [HeadDimension]),
                ("attn_v.weight", [Dimension, KeyValueHeads * HeadDimension]),
                ("attn_v.bias", [KeyValueHeads * HeadDimension]),
                ("attn_output.weight", [QueryHeads * HeadDimension, Dimension]),
                ("attn_output.bias", [Dimension]),
                ("ffn_norm.weight", [Dimension]),
                ("ffn_gate.weight", [Dimension, FeedForward]),
                ("ffn_up.weight", [Dimension, FeedForward]),
                ("ffn_down.weight", [FeedForward, Dimension])])
            {
                _tensors[$"blk.{layer}.{name}"] = shape;
            }
        }
    }

    internal TinyLlama Set(string key, string value) => Set(key, (writer, name) => writer.Add(name, value));

    internal TinyLlama Set(string key, int value) => Set(
        key, (writer, name) => writer.Add(name, GgufValueType.Int32, BitConverter.GetBytes(value)));

    internal TinyLlama Set(string key, float value) => Set(
        key, (writer, name) => writer.Add(name, GgufValueType.Float32, BitConverter.GetBytes(value)));

    internal TinyLlama Remove(string key)
    {
        if (!_keys.Remove(key) && !_tensors.Remove(key))
            throw new ArgumentException($"there is no {key}");
        return this;
    }

    internal TinyLlama SetTensor(string name, params int[] shape)
    {
        _tensors[name] = shape;
        return this;
    }

    internal GgufFile Open(GgufTensorType type = GgufTensorType.F32)
    {
        var writer = new GgufWriter();
        foreach (var (key, add) in _keys)
            add(writer, key);
        var random = new Random(42);
        foreach (var (name, shape) in _tensors)
        {
            int count = shape.Aggregate(1, (product, size) => product * size);
            double centre = name.Contains("norm") ? 1 : 0;
            double size = name.Contains("norm") ? 0.2 : name.EndsWith("bias") ? 0.3 : 1.5 / Math.Sqrt(shape[0]);
            var values = Enumerable.Range(0, count).Select(_ => (float)(centre + (((random.NextDouble() * 2) - 1) * size)));
            bool wide = type == GgufTensorType.F32 || shape.Length == 1;
            byte[] data = values.SelectMany(value => wide ? BitConverter.GetBytes(value) : BitConverter.GetBytes((Half)value)).ToArray();
            writer.AddTensor(name, wide ? GgufTensorType.F32 : type, data, [.. shape.Select(dimension => (ulong)dimension)]);
        }

        return GgufFile.FromMemory(writer.ToArray(), "tiny");
    }

    private TinyLlama Set(string key, Action<GgufWriter, string> add)
    {
        _keys[key] = add;
        return this;
    }
}
