using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Console;

/// <summary>What MODEL names.</summary>
internal static class ModelSource
{
    /// <summary>Opens the file, or the embedded model, and checks its descriptions; weights are not touched.</summary>
    internal static GgufFile Open(string model)
    {
        if (model == ModelArgument.Demo)
            return DemoModel.Open();
        if (Directory.Exists(model))
            throw new UsageException($"'{model}' is a directory; name a GGUF file in it, or `{ModelArgument.Demo}`.");
        if (!File.Exists(model))
            throw new UsageException($"there is no model file '{model}'; name a GGUF file, or `{ModelArgument.Demo}` for the embedded model.");
        return GgufFile.Open(model);
    }

    /// <summary>Makes a model of an open file, which must outlive it.</summary>
    /// <param name="file">What <see cref="Open"/> returned.</param>
    /// <param name="context">What computes.</param>
    /// <param name="batchTokens">Most tokens of a forward; 0: the default.</param>
    /// <param name="bars">Where the loading is shown.</param>
    /// <param name="cancellation">Stops the loading.</param>
    internal static LanguageModel Load(GgufFile file, ContextOptions context, int batchTokens, ProgressBars bars, CancellationToken cancellation)
    {
        using var bar = bars.Add("Loading the model");
        var options = new ModelOptions
        {
            Context = context,
            BatchTokens = batchTokens > 0 ? batchTokens : CacheOptions.DefaultBatchTokens,
            Progress = new LoadBar(bar),
        };
        return LanguageModel.Load(file, options, cancellation);
    }

    private sealed class LoadBar(ProgressBars.Bar bar) : IProgress<LoadProgress>
    {
        public void Report(LoadProgress value) => bar.Report(value.DoneBytes, value.TotalBytes);
    }
}
