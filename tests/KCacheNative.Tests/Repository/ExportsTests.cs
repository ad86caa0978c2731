using System.Text.RegularExpressions;

namespace KCacheNative.Tests.Repository;

/// <summary>The list of exported symbols (a native test holds it against the linked library) is what the headers declare.</summary>
public class ExportsTests
{
    [Test]
    public void ListIsWhatTheHeadersDeclare()
    {
        var declared = RepositoryTree.Files("include")
            .SelectMany(file => Regex.Matches(RepositoryTree.Read(file), @"^KC_API [^(;]*\b(kc_\w+)\(", RegexOptions.Multiline))
            .Select(match => match.Groups[1].Value);
        var listed = RepositoryTree.Read("src/native/api/exports.txt").Split('\n', StringSplitOptions.RemoveEmptyEntries);

        Assert.That(listed, Is.Not.Empty);
        Assert.That(listed, Is.Ordered.Using<string>(StringComparer.Ordinal));
        Assert.That(listed, Is.EquivalentTo(declared));
    }
}
