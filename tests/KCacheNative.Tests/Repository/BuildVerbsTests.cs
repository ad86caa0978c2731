using System.Text.RegularExpressions;

namespace KCacheNative.Tests.Repository;

/// <summary>build.sh and build.ps1 offer the same verbs, in the same order and words.</summary>
public class BuildVerbsTests
{
    [Test]
    public void BothScriptsListTheSameVerbs()
    {
        var shell = Verbs(RepositoryTree.Read("build.sh"), @"<<'VERBS'\n(.*?)\nVERBS\n");
        var powerShell = Verbs(RepositoryTree.Read("build.ps1"), @"\$Verbs = @'\n(.*?)\n'@\n");

        Assert.That(shell, Is.Not.Empty);
        Assert.That(powerShell, Is.EqualTo(shell));
    }

    [TestCase("build.sh", @"<<'VERBS'\n(.*?)\nVERBS\n", @"^verb_{0}\(\) ?\{{")]
    [TestCase("build.ps1", @"\$Verbs = @'\n(.*?)\n'@\n", @"^function Invoke-{0} ?\{{")]
    public void EveryVerbHasItsFunction(string script, string list, string function)
    {
        var text = RepositoryTree.Read(script);
        foreach (var verb in Verbs(text, list).Select(line => line.Split(' ')[0]))
            Assert.That(text, Does.Match("(?im)" + string.Format(function, verb)), verb);
    }

    private static string[] Verbs(string script, string pattern)
    {
        var match = Regex.Match(script.ReplaceLineEndings("\n"), pattern, RegexOptions.Singleline);
        Assert.That(match.Success, "the script has no list of verbs");
        return match.Groups[1].Value.Split('\n');
    }
}
