using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Models;

/// <summary>The shape of a model, from the metadata of its file.</summary>
public sealed record ModelConfig
{
    private const string Convert = "the file is damaged, or was converted for something else: convert the model again";
    private const int SmallestHead = 16;
    private const int LargestHead = 256;

    private ModelConfig()
    {
    }

    /// <summary>The architecture's name in the file, such as "llama".</summary>
    public required string Architecture { get; init; }

    /// <summary>The model's own name; empty if it has none.</summary>
    public required string Name { get; init; }

    /// <summary>Layers.</summary>
    public required int Layers { get; init; }

    /// <summary>Floats of a token between layers.</summary>
    public required int Dimension { get; init; }

    /// <summary>Floats of a token within the feed-forward part.</summary>
    public required int FeedForwardDimension { get; init; }

    /// <summary>Query heads.</summary>
    public required int QueryHeads { get; init; }

    /// <summary>KV heads; each serves as many query heads as the others.</summary>
    public required int KeyValueHeads { get; init; }

    /// <summary>Floats of a head.</summary>
    public required int HeadDimension { get; init; }

    /// <summary>Leading floats of a head that the rotary embedding turns.</summary>
    public required int RopeDimension { get; init; }

    /// <summary>The base of the rotary embedding's frequencies.</summary>
    public required float RopeBase { get; init; }

    /// <summary>Positions are divided by this (linear scaling); 1: none.</summary>
    public required float RopeFactor { get; init; }

    /// <summary>Which elements of a head are turned together.</summary>
    public required RopePairing RopePairing { get; init; }

    /// <summary>Added to the mean square in norms.</summary>
    public required float NormEpsilon { get; init; }

    /// <summary>Tokens that the model was trained for.</summary>
    public required int TrainedContext { get; init; }

    /// <summary>Tokens of the vocabulary: rows of the embedding.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>What the model asks of a cache.</summary>
    public CacheShape CacheShape => new(Layers, QueryHeads, KeyValueHeads, HeadDimension, TrainedContext);

    /// <summary>Reads and checks the metadata of a file.</summary>
    /// <exception cref="ModelFormatException">The architecture, the rope scaling or another value is not computed; the key is
    /// named.</exception>
    public static ModelConfig FromGguf(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var metadata = file.Metadata;
        string name = metadata.GetString("general.architecture");
        var architecture = ModelArchitecture.Find(name) ?? throw metadata.Invalid(
            "general.architecture",
            $"the architecture '{name}' is not supported",
            $"use a model of the architecture {ModelArchitecture.Names}");
        string Key(string suffix) => $"{name}.{suffix}";

        RefuseUnlessZero(metadata, Key("expert_count"), "mixtures of experts are not supported");
        RefuseUnlessZero(metadata, Key("attention.sliding_window"), "sliding-window attention of the model's own is not supported");
        if (metadata.ContainsKey(Key("attention.causal")) && !metadata.GetBoolean(Key("attention.causal")))
            throw metadata.Invalid(Key("attention.causal"), "it is false: encoders are not supported", "use a model that generates text");

        int layers = Positive(metadata, Key("block_count"));
        int dimension = Positive(metadata, Key("embedding_length"));
        int queryHeads = Positive(metadata, Key("attention.head_count"));
        int keyValueHeads = metadata.ContainsKey(Key("attention.head_count_kv"))
            ? Positive(metadata, Key("attention.head_count_kv"))
            : queryHeads;
        if (queryHeads % keyValueHeads != 0)
            throw metadata.Invalid(
                Key("attention.head_count_kv"), $"{queryHeads} query heads cannot share {keyValueHeads} KV heads evenly", Convert);
        int headDimension = HeadSize(metadata, Key("attention.key_length"), Key("embedding_length"), dimension, queryHeads);
        int valueDimension = metadata.GetInt32(Key("attention.value_length"), headDimension);
        if (valueDimension != headDimension)
            throw metadata.Invalid(
                Key("attention.value_length"),
                $"values of {valueDimension} and keys of {headDimension} floats a head differ",
                "only models with equal sizes are supported");
        int ropeDimension = metadata.GetInt32(Key("rope.dimension_count"), headDimension);
        if (ropeDimension < 2 || ropeDimension > headDimension || ropeDimension % 2 != 0)
            throw metadata.Invalid(
                Key("rope.dimension_count"), $"it is {ropeDimension}, expected an even number from 2 to the head size {headDimension}",
                Convert);

        return new ModelConfig
        {
            Architecture = name,
            Name = metadata.GetString("general.name", ""),
            Layers = layers,
            Dimension = dimension,
            FeedForwardDimension = Positive(metadata, Key("feed_forward_length")),
            QueryHeads = queryHeads,
            KeyValueHeads = keyValueHeads,
            HeadDimension = headDimension,
            RopeDimension = ropeDimension,
            RopeBase = PositiveNumber(metadata, Key("rope.freq_base"), 10000),
            RopeFactor = RopeScalingFactor(metadata, name),
            RopePairing = architecture.Pairing,
            NormEpsilon = PositiveNumber(metadata, Key("attention.layer_norm_rms_epsilon"), null),
            TrainedContext = Positive(metadata, Key("context_length")),
            VocabularySize = VocabularyRows(file),
        };
    }

    private static float RopeScalingFactor(GgufMetadata metadata, string architecture)
    {
        string typeKey = $"{architecture}.rope.scaling.type", factorKey = $"{architecture}.rope.scaling.factor";
        const string wayOut = "use a model with rope scaling none or linear";
        string type = metadata.GetString(typeKey, "linear");
        if (type is not ("none" or "linear"))
            throw metadata.Invalid(typeKey, $"the rope scaling '{type}' is not supported", wayOut);
        if (type == "none")
            return 1;
        // Older files name the factor of linear scaling, and nothing else.
        string olderKey = $"{architecture}.rope.scale_linear";
        return PositiveNumber(metadata, metadata.ContainsKey(factorKey) ? factorKey : olderKey, 1);
    }

    private static int HeadSize(GgufMetadata metadata, string key, string dimensionKey, int dimension, int heads)
    {
        bool named = metadata.ContainsKey(key);
        if (!named && dimension % heads != 0)
            throw metadata.Invalid(dimensionKey, $"{dimension} cannot be shared by {heads} heads evenly, and '{key}' is missing", Convert);
        int size = named ? Positive(metadata, key) : dimension / heads;
        return size % SmallestHead == 0 && size is >= SmallestHead and <= LargestHead
            ? size
            : throw metadata.Invalid(
                named ? key : dimensionKey,
                $"heads of {size} floats are not supported",
                $"use a model whose heads have a multiple of {SmallestHead} up to {LargestHead}");
    }

    private static int VocabularyRows(GgufFile file)
    {
        var embedding = file.GetTensor(LlamaModel.EmbeddingName);
        return embedding.Dimensions.Length == 2 && embedding.Dimensions[1] <= int.MaxValue
            ? (int)embedding.Dimensions[1]
            : throw new ModelFormatException(
                file.Name, $"tensor '{LlamaModel.EmbeddingName}'", $"it is {embedding.DimensionsText}, expected a matrix", Convert);
    }

    private static void RefuseUnlessZero(GgufMetadata metadata, string key, string defect)
    {
        if (metadata.TryGetValue(key, out var value) && !(value.TryGetInt64(out long number) && number == 0))
            throw metadata.Invalid(key, $"it is {value}: {defect}", "use a model without");
    }

    private static int Positive(GgufMetadata metadata, string key)
    {
        int value = metadata.GetInt32(key);
        return value > 0 ? value : throw metadata.Invalid(key, $"it is {value}, expected a number above 0", Convert);
    }

    private static float PositiveNumber(GgufMetadata metadata, string key, float? fallback)
    {
        float value = fallback is { } other ? metadata.GetSingle(key, other) : metadata.GetSingle(key);
        return value > 0 && float.IsFinite(value)
            ? value
            : throw metadata.Invalid(
                key, $"it is {value.ToString(System.Globalization.CultureInfo.InvariantCulture)}, expected a number above 0", Convert);
    }
}
