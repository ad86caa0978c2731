using System.Text.RegularExpressions;

namespace KCacheNative.Tests.Repository;

/// <summary>One version, wherever it is written.</summary>
public class VersionTests
{
    [Test]
    public void HeaderBuildAndChangelogAgree()
    {
        var header = RepositoryTree.Read("include/kcache.h");
        var version = string.Join('.', new[] { "MAJOR", "MINOR", "PATCH" }
            .Select(part => Regex.Match(header, $@"#define KC_VERSION_{part} (\d+)").Groups[1].Value));

        Assert.That(version, Does.Match(@"^\d+\.\d+\.\d+$"));
        Assert.That(RepositoryTree.Read("CMakeLists.txt"), Does.Contain($"project(kcache VERSION {version} "));
        Assert.That(RepositoryTree.Read("Directory.Build.props"), Does.Contain($"<Version>{version}</Version>"));
        Assert.That(RepositoryTree.Read("CHANGELOG.md"), Does.Contain($"## [{version}]"));
    }
}
