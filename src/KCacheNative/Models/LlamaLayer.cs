using KCacheNative.Runtime;

namespace KCacheNative.Models;

/// <summary>The weights of a layer. Biases and norms of q and k are empty tensors where the model has none.</summary>
internal sealed class LlamaLayer
{
    internal LlamaLayer(ModelWeights weights, ModelConfig config, int index)
    {
        string Name(string suffix) => $"blk.{index}.{suffix}";
        int queries = config.QueryHeads * config.HeadDimension, keys = config.KeyValueHeads * config.HeadDimension;
        AttentionNorm = weights.Vector(Name("attn_norm.weight"), config.Dimension);
        Query = weights.Matrix(Name("attn_q.weight"), queries, config.Dimension);
        Key = weights.Matrix(Name("attn_k.weight"), keys, config.Dimension);
        Value = weights.Matrix(Name("attn_v.weight"), keys, config.Dimension);
        QueryBias = weights.OptionalVector(Name("attn_q.bias"), queries);
        KeyBias = weights.OptionalVector(Name("attn_k.bias"), keys);
        ValueBias = weights.OptionalVector(Name("attn_v.bias"), keys);
        QueryNorm = weights.OptionalVector(Name("attn_q_norm.weight"), config.HeadDimension);
        KeyNorm = weights.OptionalVector(Name("attn_k_norm.weight"), config.HeadDimension);
        Output = weights.Matrix(Name("attn_output.weight"), config.Dimension, queries);
        OutputBias = weights.OptionalVector(Name("attn_output.bias"), config.Dimension);
        FeedForwardNorm = weights.Vector(Name("ffn_norm.weight"), config.Dimension);
        Gate = weights.Matrix(Name("ffn_gate.weight"), config.FeedForwardDimension, config.Dimension);
        Up = weights.Matrix(Name("ffn_up.weight"), config.FeedForwardDimension, config.Dimension);
        Down = weights.Matrix(Name("ffn_down.weight"), config.Dimension, config.FeedForwardDimension);
    }

    internal Tensor AttentionNorm { get; }

    internal Matrix Query { get; }

    internal Matrix Key { get; }

    internal Matrix Value { get; }

    internal Tensor QueryBias { get; }

    internal Tensor KeyBias { get; }

    internal Tensor ValueBias { get; }

    internal Tensor QueryNorm { get; }

    internal Tensor KeyNorm { get; }

    internal Matrix Output { get; }

    internal Tensor OutputBias { get; }

    internal Tensor FeedForwardNorm { get; }

    internal Matrix Gate { get; }

    internal Matrix Up { get; }

    internal Matrix Down { get; }
}
