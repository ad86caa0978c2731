namespace KCacheNative.Tests.Repository;

/// <summary>The checkout that this test run was built from.</summary>
internal static class RepositoryTree
{
    private static readonly string[] Skipped = ["artifacts", "bin", "obj", "build", "results"];

    /// <summary>The folder that holds KCacheNative.sln.</summary>
    public static string Root => TestEnvironment.RepositoryRoot;

    /// <summary>An absolute path from one that is relative to the root and written with slashes.</summary>
    public static string PathOf(string relative) => Path.Combine(Root, relative.Replace('/', Path.DirectorySeparatorChar));

    public static string Read(string relative) => File.ReadAllText(PathOf(relative));

    /// <summary>Files under a folder, relative to the root, with slashes; none if the folder is missing. Build outputs and hidden
    /// folders are left out.</summary>
    public static IEnumerable<string> Files(string folder)
    {
        var start = new DirectoryInfo(PathOf(folder));
        if (!start.Exists)
            yield break;
        var pending = new Stack<DirectoryInfo>([start]);
        while (pending.TryPop(out var directory))
        {
            foreach (var child in directory.EnumerateDirectories())
            {
                if (!child.Name.StartsWith('.') && !Skipped.Contains(child.Name))
                    pending.Push(child);
            }
            foreach (var file in directory.EnumerateFiles())
                yield return Path.GetRelativePath(Root, file.FullName).Replace('\\', '/');
        }
    }
}
