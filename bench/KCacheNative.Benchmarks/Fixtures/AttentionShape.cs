namespace KCacheNative.Benchmarks.Fixtures;

/// <summary>The attention of a real model's layer.</summary>
/// <param name="Name">The model.</param>
/// <param name="QueryHeads">Query heads.</param>
/// <param name="KeyValueHeads">KV heads.</param>
/// <param name="HeadDimension">Floats of a head.</param>
public sealed record AttentionShape(string Name, int QueryHeads, int KeyValueHeads, int HeadDimension)
{
    /// <summary>SmolLM2-135M.</summary>
    public static AttentionShape SmolLM2 { get; } = new("SmolLM2-135M", 9, 3, 64);

    /// <summary>Llama-3.2-1B.</summary>
    public static AttentionShape Llama1B { get; } = new("Llama-3.2-1B", 32, 8, 64);

    /// <summary>Query heads of a KV head.</summary>
    public int Group => QueryHeads / KeyValueHeads;

    /// <inheritdoc/>
    public override string ToString() => Name;
}
