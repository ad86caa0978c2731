namespace KCacheNative.Tests;

/// <summary>Where the tests find the repository and the data beside it. Tests without their data are skipped with a sentence.</summary>
public static class TestEnvironment
{
    /// <summary>The folder that holds KCacheNative.sln.</summary>
    public static string RepositoryRoot { get; } = FindRepositoryRoot();

    /// <summary>The demonstration model of the repository.</summary>
    public static string DemoModelPath => Demo("archivist-q8_0.gguf");

    /// <summary>The library with a CUDA device made of software, or the test is skipped.</summary>
    public static string SimulatedLibrary => ExistingOrIgnore(
        Path.Combine(RepositoryRoot, "artifacts", "cmake", "simt", "tests", "simt", "libkcache_simt.so"), "'./build.sh simt' builds it");

    /// <summary>SmolLM2-135M-Instruct, from the test data beside the repository.</summary>
    public static string SmolModelPath => Shared("models/smollm2-135m-instruct-q4_1.gguf");

    /// <summary>A file of the demonstration model's folder, or the test is skipped.</summary>
    public static string Demo(string relativePath) => ExistingOrIgnore(
        Path.Combine(RepositoryRoot, "src", "demo-model", relativePath),
        "the demonstration model's folder src/demo-model has no such file");

    /// <summary>A file of the test data beside the repository (or in KCACHE_SHARED), or the test is skipped.</summary>
    public static string Shared(string relativePath)
    {
        string folder = Environment.GetEnvironmentVariable("KCACHE_SHARED") is { Length: > 0 } set
            ? set
            : Path.Combine(RepositoryRoot, "..", "shared");
        return ExistingOrIgnore(
            Path.GetFullPath(Path.Combine(folder, relativePath)),
            "set KCACHE_SHARED to the folder of the shared test data to run this test");
    }

    private static string ExistingOrIgnore(string path, string sentence)
    {
        if (!File.Exists(path))
            Assert.Ignore($"{path} is missing: {sentence}.");
        return path;
    }

    private static string FindRepositoryRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "KCacheNative.sln")))
                return folder.FullName;
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} holds KCacheNative.sln.");
    }
}
