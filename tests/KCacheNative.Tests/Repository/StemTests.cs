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

    [TestCaseSource(nameof(Stems))]
    public void StandsInTheHeader(string stem)
    {
        var header = RepositoryTree.Read("include/kcache_ops.h");
        foreach (var function in stem == "elementwise" ? Elementwise : [stem])
            Assert.That(header, Does.Match($@"KC_API kc_status kc_{function}\("));
    }
}
