using System.Runtime.InteropServices;
using KCacheNative.Formats;
using KCacheNative.Tests.Formats;

namespace KCacheNative.Benchmarks.Fixtures;

/// <summary>The shape of a Llama whose weights are random: speed does not depend on what they are.</summary>
/// <param name="Layers">Layers.</param>
/// <param name="Dimension">Floats of a token between layers.</param>
/// <param name="FeedForward">Floats of a token within the feed-forward part.</param>
/// <param name="Vocabulary">Tokens.</param>
/// <param name="Attention">Heads.</param>
internal sealed record LlamaShape(int Layers, int Dimension, int FeedForward, int Vocabulary, AttentionShape Attention)
{
    /// <summary>SmolLM2-135M, output tied to the embedding.</summary>
    internal static LlamaShape SmolLM2 { get; } = new(30, 576, 1536, 49152, AttentionShape.SmolLM2);

    /// <summary>A file of this shape in memory.</summary>
    internal GgufFile Open(GgufTensorType type)
    {
        var writer = new GgufWriter();
        writer.Add("general.architecture", "llama").Add("general.name", Attention.Name + " with random weights");
        writer.Add("llama.block_count", (uint)Layers).Add("llama.context_length", 8192u);
        writer.Add("llama.embedding_length", (uint)Dimension).Add("llama.feed_forward_length", (uint)FeedForward);
        writer.Add("llama.attention.head_count", (uint)Attention.QueryHeads).Add("llama.attention.head_count_kv", (uint)Attention.KeyValueHeads);
        writer.Add("llama.attention.key_length", (uint)Attention.HeadDimension).Add("llama.attention.value_length", (uint)Attention.HeadDimension);
        writer.Add("llama.attention.layer_norm_rms_epsilon", GgufValueType.Float32, BitConverter.GetBytes(1e-5f));
        writer.Add("llama.rope.freq_base", GgufValueType.Float32, BitConverter.GetBytes(100000f));

        int seed = 0;
        void Matrix(string name, int rows, int columns)
        {
            byte[] data = new byte[RandomWeights.Bytes(type, rows, columns)];
            RandomWeights.Fill(data, type, ++seed);
            writer.AddTensor(name, type, data, (ulong)columns, (ulong)rows);
        }

        void Norm(string name)
        {
            float[] ones = new float[Dimension];
            Array.Fill(ones, 1);
            writer.AddTensor(name, GgufTensorType.F32, MemoryMarshal.AsBytes(ones.AsSpan()).ToArray(), (ulong)Dimension);
        }

        int queries = Attention.QueryHeads * Attention.HeadDimension, keys = Attention.KeyValueHeads * Attention.HeadDimension;
        Matrix("token_embd.weight", Vocabulary, Dimension);
        Norm("output_norm.weight");
        for (int layer = 0; layer < Layers; layer++)
        {
            string prefix = $"blk.{layer}.";
            Norm(prefix + "attn_norm.weight");
            Matrix(prefix + "attn_q.weight", queries, Dimension);
            Matrix(prefix + "attn_k.weight", keys, Dimension);
            Matrix(prefix + "attn_v.weight", keys, Dimension);
            Matrix(prefix + "attn_output.weight", Dimension, queries);
            Norm(prefix + "ffn_norm.weight");
            Matrix(prefix + "ffn_gate.weight", FeedForward, Dimension);
            Matrix(prefix + "ffn_up.weight", FeedForward, Dimension);
            Matrix(prefix + "ffn_down.weight", Dimension, FeedForward);
        }

        return GgufFile.FromMemory(writer.ToArray(), Attention.Name);
    }
}
