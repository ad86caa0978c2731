namespace KCacheNative.Tests.Repository;

/// <summary>A kernel has one name, and stands under it in every room of the repository.</summary>
public class StemTests
{
    private static readonly string[] Stems =
    [
        "elementwise", "matmul", "kv_append", "attention_full", "attention_score", "select_topn", "row_restore", "attention_mix",
    ];

    // The functions of the one stem that is a family; every other stem is a function of its own name.
    private static readonly string[] Elementwise = ["rms_norm", "rope", "swiglu", "add", "embed", "softmax", "argmax"];

    // folder, and how a file there is named ({0}: the stem); letter case and underscores do not count
    private static readonly (string Folder, string Name)[] Rooms =
    [
        ("src/native/cpu/kernels", "{0}.cpp"),
        ("cuda/kernels", "{0}.cu"),
        ("src/KCacheNative/Interop", "NativeMethods.{0}.cs"),
        ("src/KCacheNative/Runtime", "Ops.{0}.cs"),
        ("tests/native", "{0}_test.cpp"),
        ("bench/KCacheNative.Benchmarks", "{0}Benchmarks.cs"),
    ];

    private static IEnumerable<TestCaseData<string, string, string>> StemsAndRooms() =>
        from room in Rooms from stem in Stems select new TestCaseData<string, string, string>(stem, room.Folder, room.Name);

    [TestCaseSource(nameof(Stems))]
    public void StandsInTheHeader(string stem)
    {
        var header = RepositoryTree.Read("include/kcache_ops.h");
        foreach (var function in stem == "elementwise" ? Elementwise : [stem])
            Assert.That(header, Does.Match($@"KC_API kc_status kc_{function}\("));
    }

    [TestCaseSource(nameof(StemsAndRooms))]
    public void StandsInTheRoom(string stem, string folder, string name)
    {
        var files = RepositoryTree.Files(folder).Select(file => Plain(Path.GetFileName(file)));

        Assert.That(files, Does.Contain(Plain(string.Format(name, stem))), $"{folder} has no {name} for the stem {stem}");
    }

    private static string Plain(string name) => name.Replace("_", "").ToLowerInvariant();
}
