using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Models;

/// <summary>What a file says of its model is read, and refused with the key and the value where it is not computed here.</summary>
public class ModelConfigTests
{
    [Test]
    public void ReadsTheMetadata()
    {
        using var file = new TinyLlama().Open();
        var config = ModelConfig.FromGguf(file);
        Assert.That((config.Layers, config.Dimension, config.FeedForwardDimension, config.VocabularySize), Is.EqualTo((2, 40, 56, 37)));
        Assert.That((config.QueryHeads, config.KeyValueHeads, config.HeadDimension, config.RopeDimension), Is.EqualTo((6, 2, 16, 12)));
        Assert.That((config.RopeBase, config.RopeFactor, config.NormEpsilon, config.TrainedContext), Is.EqualTo((5000f, 4f, 1e-5f, 256)));
        Assert.That(config.RopePairing, Is.EqualTo(RopePairing.Interleaved));
    }

    [Test]
    public void DefaultsStandForMissingKeys()
    {
        using var file = new TinyLlama().Remove("llama.rope.scaling.type").Remove("llama.rope.scaling.factor")
            .Remove("llama.rope.freq_base").Remove("llama.rope.dimension_count").Remove("llama.attention.value_length").Open();
        var config = ModelConfig.FromGguf(file);
        Assert.That((config.RopeFactor, config.RopeBase, config.RopeDimension), Is.EqualTo((1f, 10000f, 16)));
    }

    [Test]
    public void OlderFilesNameOnlyTheFactor()
    {
        using var file = new TinyLlama().Remove("llama.rope.scaling.type").Remove("llama.rope.scaling.factor")
            .Set("llama.rope.scale_linear", 2f).Open();
        Assert.That(ModelConfig.FromGguf(file).RopeFactor, Is.EqualTo(2f));
    }

    [TestCase("general.architecture", "mamba")]
    [TestCase("llama.rope.scaling.type", "yarn")]
    [TestCase("llama.block_count", "two")]
    public void ATextThatIsNotComputedIsNamed(string key, string value)
    {
        using var file = new TinyLlama().Set(key, value).Open();
        Assert.That(
            () => ModelConfig.FromGguf(file), Throws.TypeOf<ModelFormatException>().With.Message.Contains(key).And.Message.Contains(value));
    }

    [TestCase("llama.block_count", 0)]
    [TestCase("llama.context_length", -5)]
    [TestCase("llama.embedding_length", 0)]
    [TestCase("llama.feed_forward_length", 0)]
    [TestCase("llama.attention.head_count", 0)]
    [TestCase("llama.attention.head_count_kv", 4)]
    [TestCase("llama.attention.key_length", 24)]
    [TestCase("llama.attention.key_length", 272)]
    [TestCase("llama.attention.value_length", 32)]
    [TestCase("llama.rope.dimension_count", 13)]
    [TestCase("llama.rope.dimension_count", 18)]
    [TestCase("llama.rope.freq_base", 0)]
    [TestCase("llama.rope.scaling.factor", 0)]
    [TestCase("llama.attention.layer_norm_rms_epsilon", -1)]
    [TestCase("llama.expert_count", 8)]
    [TestCase("llama.attention.sliding_window", 32)]
    public void ANumberThatIsNotComputedIsNamed(string key, int value)
    {
        using var file = new TinyLlama().Set(key, value).Open();
        Assert.That(
            () => ModelConfig.FromGguf(file),
            Throws.TypeOf<ModelFormatException>().With.Message.Contains(key).And.Message.Contains(value.ToString()));
    }

    [TestCase("general.architecture")]
    [TestCase("llama.block_count")]
    [TestCase("llama.context_length")]
    [TestCase("llama.embedding_length")]
    [TestCase("llama.feed_forward_length")]
    [TestCase("llama.attention.head_count")]
    [TestCase("llama.attention.layer_norm_rms_epsilon")]
    [TestCase("token_embd.weight")]
    public void AMissingKeyOrTensorIsNamed(string name)
    {
        using var file = new TinyLlama().Remove(name).Open();
        Assert.That(
            () => ModelConfig.FromGguf(file),
            Throws.TypeOf<ModelFormatException>().With.Message.Contains(name).And.Message.Contains("missing"));
    }

    [Test]
    public void InfinityAndNaNAreNoNumbers([Values(float.NaN, float.PositiveInfinity)] float value)
    {
        using var file = new TinyLlama().Set("llama.rope.freq_base", value).Open();
        Assert.That(() => ModelConfig.FromGguf(file), Throws.TypeOf<ModelFormatException>().With.Message.Contains("llama.rope.freq_base"));
    }

    [TestCase("llama-yarn", "llama.rope.scaling.type", "yarn")]
    [TestCase("qwen2", "general.architecture", "qwen2")]
    [TestCase("qwen3", "general.architecture", "qwen3")]
    [TestCase("gemma3", "general.architecture", "gemma3")]
    [TestCase("phi3", "general.architecture", "phi3")]
    [TestCase("phi3-longrope", "general.architecture", "phi3")]
    public void OtherFamiliesAreRefusedByName(string family, string key, string value)
    {
        using var file = GgufFile.Open(TestEnvironment.Shared($"siblings/models/{family}/{family}.gguf"));
        Assert.That(
            () => ModelConfig.FromGguf(file),
            Throws.TypeOf<ModelFormatException>().With.Message.Contains(key).And.Message.Contains($"'{value}'"));
    }
}
