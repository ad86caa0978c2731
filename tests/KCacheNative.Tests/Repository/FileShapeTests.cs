using System.Text.RegularExpressions;

namespace KCacheNative.Tests.Repository;

/// <summary>One idea per file: files stay short, and no name says nothing.</summary>
public class FileShapeTests
{
    private const int KernelLines = 350;
    private const int OtherLines = 500;

    private static readonly string[] Code =
        [".c", ".h", ".cpp", ".inl", ".cu", ".cuh", ".cs", ".py", ".sh", ".ps1", ".txt", ".props", ".targets", ".csproj"];

    private static readonly string[] EmptyNames = ["util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"];

    [Test]
    public void FilesStayShort()
    {
        var tooLong = CodeFiles()
            .Select(file => (file, lines: File.ReadLines(RepositoryTree.PathOf(file)).Count(), most: MostLines(file)))
            .Where(item => item.lines > item.most)
            .Select(item => $"{item.file} has {item.lines} lines, at most {item.most}");

        Assert.That(tooLong, Is.Empty);
    }

    [Test]
    public void NamesSayWhatIsInside()
    {
        var files = CodeFiles().Where(file => Words(Path.GetFileNameWithoutExtension(file)).Any(IsEmptyName));
        var types = CodeFiles().Where(file => Path.GetExtension(file) is ".cs" or ".cpp" or ".h" or ".inl" or ".cu" or ".cuh")
            .SelectMany(file => Regex.Matches(RepositoryTree.Read(file), @"\b(?:class|struct|record|interface|enum|namespace)\s+([A-Za-z_]\w*)")
                .Select(match => match.Groups[1].Value)
                .Where(name => Words(name).Any(IsEmptyName))
                .Select(name => $"{name} in {file}"));

        Assert.That(files.Concat(types), Is.Empty);
    }

    [TestCase("StringUtils", ExpectedResult = true)]
    [TestCase("matmul_common", ExpectedResult = true)]
    [TestCase("KvCache", ExpectedResult = false)]
    [TestCase("Commonality", ExpectedResult = false)]
    public bool EmptyNamesAreSeen(string name) => Words(name).Any(IsEmptyName);

    private static IEnumerable<string> CodeFiles()
    {
        string[] folders = ["src", "include", "cuda", "tests", "bench", ".ci"];
        string[] atRoot = ["build.sh", "build.ps1", "CMakeLists.txt", "Directory.Build.props", "Directory.Build.targets"];
        // archives are texts to read from, not code
        return folders.SelectMany(RepositoryTree.Files).Concat(atRoot)
            .Where(file => Code.Contains(Path.GetExtension(file)) && !file.StartsWith("src/demo-model/archives/", StringComparison.Ordinal));
    }

    private static int MostLines(string file) => Regex.IsMatch(file, "^(src/native/cpu|cuda)/kernels/") ? KernelLines : OtherLines;

    private static bool IsEmptyName(string word) => EmptyNames.Contains(word.ToLowerInvariant());

    private static IEnumerable<string> Words(string name) =>
        Regex.Matches(name, "[A-Z]+(?![a-z])|[A-Z]?[a-z]+").Select(match => match.Value);
}
