using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Engine;

/// <summary>The memory that a model and a cache need, before either is loaded.</summary>
/// <param name="WeightsBytes">Weights: mapped from the file on the CPU, so the system can drop and reread them.</param>
/// <param name="ActivationsBytes">What a forward writes between its kernels. Scoring a text takes up to 16 MiB more.</param>
/// <param name="CuBlasBytes">What cuBLAS takes for products of prompts; 0 where they are the library's own. Scoring a text can raise it to
/// 96 MiB.</param>
/// <param name="Cache">The cache, per home.</param>
/// <param name="Options">The context and prompt window that were planned with.</param>
public sealed record MemoryPlan(long WeightsBytes, long ActivationsBytes, long CuBlasBytes, CacheMemory Cache, CacheOptions Options)
{
    /// <summary>All of the fast home, weights included.</summary>
    public long FastBytes => WeightsBytes + ActivationsBytes + CuBlasBytes + Cache.FastBytes;

    /// <summary>Plans; reads descriptions, not weights.</summary>
    /// <param name="file">The model.</param>
    /// <param name="policy">How the cache keeps and reads its rows.</param>
    /// <param name="options">How large the cache is; null for the defaults.</param>
    /// <param name="context">What will compute; null for a context with the defaults, made for this call.</param>
    /// <exception cref="ModelFormatException">The file holds something that is not computed here.</exception>
    /// <exception cref="KCacheException">The combination is not offered, or the budget is too small (the message names the
    /// smallest).</exception>
    public static MemoryPlan For(GgufFile file, CachePolicy policy, CacheOptions? options = null, ComputeContext? context = null)
    {
        var config = ModelConfig.FromGguf(file);
        var resolved = config.CacheShape.Resolve(options ?? new CacheOptions());
        using var own = context is null ? new ComputeContext() : null;
        context ??= own!;
        var cache = KvCache.Plan(context, config.CacheShape, policy, resolved);
        return new MemoryPlan(
            ModelWeights.Bytes(file),
            ModelActivations.Bytes(config, resolved.BatchTokens, resolved.Sequences),
            context.FindsCuBlas ? LlamaModel.CuBlasBytes(config, resolved.BatchTokens, resolved.Sequences) : 0,
            cache,
            resolved);
    }
}
