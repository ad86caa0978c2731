using KCacheNative.Runtime;

namespace KCacheNative.Models;

/// <summary>
/// The architectures that <see cref="LlamaModel"/> computes, by their name in GGUF files. Biases and norms of q and k are taken where a
/// file has them, so a relative of Llama that differs in nothing else is a row of this table.
/// </summary>
internal sealed record ModelArchitecture(string Name, RopePairing Pairing)
{
    private static readonly ModelArchitecture[] Known =
    [
        new("llama", RopePairing.Interleaved),
    ];

    internal static string Names => string.Join(", ", Known.Select(architecture => architecture.Name));

    internal static ModelArchitecture? Find(string name) => Array.Find(Known, architecture => architecture.Name == name);
}
