using KCacheNative.Engine;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Engine;

/// <summary>The demonstration model as the tests of the engine load it, and its longest archive.</summary>
internal static class DemoSessions
{
    internal static LanguageModel Load() => LanguageModel.Load(TestEnvironment.DemoModelPath);

    internal static string Archive(string size) => File.ReadAllText(TestEnvironment.Demo($"archives/archive-{size}.txt"));

    internal static async Task<(List<GeneratedPiece> Pieces, GenerationResult Result)> Collect(
        Session session, string prompt, GenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        var pieces = new List<GeneratedPiece>();
        await foreach (var piece in session.GenerateAsync(prompt, options, cancellationToken))
            pieces.Add(piece);
        return (pieces, session.LastResult!);
    }

    internal static void AssertUntouched(Session session, int[] tokens, int cached)
    {
        Assert.That(session.Tokens, Is.EqualTo(tokens), "the text is as before");
        Assert.That(session.Cache.Length(0), Is.EqualTo(cached), "the cache is as before");
    }

    internal static CacheOptions Context(int tokens) => new() { Context = tokens };
}
