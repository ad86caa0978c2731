using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;

namespace KCacheNative.Interop;

/// <summary>
/// Finds and loads the native library once per process: the file that KCACHE_LIBRARY names (and then no other), else beside the assembly,
/// in runtimes/RID/native, in artifacts/native of a folder above (a build tree), and at last where the system looks.
/// </summary>
internal static class NativeLibraryLoader
{
    /// <summary>Names the one file to load.</summary>
    internal const string Variable = "KCACHE_LIBRARY";

    private static readonly Lazy<nint> Loaded = new(static () => Load(Candidates(), CheckAbi), LazyThreadSafetyMode.PublicationOnly);

    /// <summary>The loaded library.</summary>
    /// <exception cref="KCacheException">None of the files could be loaded, or it has another ABI.</exception>
    internal static nint Handle => Loaded.Value;

    internal static string FileName =>
        OperatingSystem.IsWindows() ? "kcache.dll" : OperatingSystem.IsMacOS() ? "libkcache.dylib" : "libkcache.so";

    /// <summary>The files to try, in order. The last is a bare name, which the system looks up in its own folders.</summary>
    internal static IReadOnlyList<string> Candidates()
    {
        if (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named)
            return [Path.GetFullPath(named)];
        string beside = AppContext.BaseDirectory;
        List<string> files =
        [
            Path.Combine(beside, FileName),
            Path.Combine(beside, "runtimes", PortableRid, "native", FileName),
        ];
        for (var folder = new DirectoryInfo(beside); folder is not null; folder = folder.Parent)
        {
            string built = Path.Combine(folder.FullName, "artifacts", "native", FileName);
            if (File.Exists(built))
                files.Add(built);
        }

        files.Add(FileName);
        return files;
    }

    /// <summary>Loads the first file that can be loaded; <paramref name="check"/> returns why one will not do, or null.</summary>
    internal static nint Load(IReadOnlyList<string> files, Func<nint, string?> check)
    {
        var report = new StringBuilder();
        foreach (string file in files)
        {
            string reason;
            if (Path.IsPathRooted(file) && !File.Exists(file))
            {
                reason = "there is no such file";
            }
            else if (NativeBinary.WrongArchitecture(file) is { } wrong)
            {
                reason = wrong;
            }
            else
            {
                try
                {
                    nint handle = Path.IsPathRooted(file)
                        ? NativeLibrary.Load(file)
                        : NativeLibrary.Load(file, typeof(NativeLibraryLoader).Assembly, DllImportSearchPath.SafeDirectories);
                    if (check(handle) is not { } unfit)
                        return handle;
                    NativeLibrary.Free(handle);
                    reason = unfit;
                }
                catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
                {
                    reason = LoaderReason(file, e.Message);
                }
            }

            report.Append(report.Length > 0 ? "; " : "").Append(file).Append(": ").Append(reason);
        }

        string wayOut = Environment.GetEnvironmentVariable(Variable) is { Length: > 0 }
            ? $"Correct the environment variable {Variable}, or unset it to search the usual places."
            : $"Install the package for {PortableRid}, build it ('./build.sh native' in the repository), "
                + $"or name the file in the environment variable {Variable}.";
        throw new KCacheException($"The native library of KCacheNative could not be loaded for {PortableRid}. Tried {report}. {wayOut}");
    }

    private static string PortableRid
    {
        get
        {
            string system = OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx" : "linux";
            return $"{system}-{RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()}";
        }
    }

    private static unsafe string? CheckAbi(nint handle)
    {
        if (!NativeLibrary.TryGetExport(handle, "kc_abi", out nint abi)
            || !NativeLibrary.TryGetExport(handle, "kc_version", out nint version))
            return "it does not export kc_abi and kc_version, so it is another library of the same name";
        int found = ((delegate* unmanaged<int>)abi)();
        if (found == NativeMethods.Abi)
            return null;
        string? release = Marshal.PtrToStringUTF8((nint)((delegate* unmanaged<byte*>)version)());
        string? mine = typeof(NativeLibraryLoader).Assembly.GetName().Version?.ToString(3);
        return $"it is version {release} with ABI {found}, but this assembly ({mine}) needs ABI {NativeMethods.Abi}: "
            + "use files of one release";
    }

    // The runtime's message names every spelling that it tried; the lines of the system's own loader say what is missing.
    private static string LoaderReason(string file, string message)
    {
        var lines = message.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        string? mine = lines.FirstOrDefault(line => line.StartsWith(file + ":", StringComparison.Ordinal))
            ?? lines.FirstOrDefault(
                line => line.Contains(": ", StringComparison.Ordinal) && !line.StartsWith("Unable", StringComparison.Ordinal));
        if (mine is not null && mine.StartsWith(file + ":", StringComparison.Ordinal))
            mine = mine[(file.Length + 1)..].Trim();
        return (mine ?? lines.FirstOrDefault() ?? "the system's loader gave no reason").TrimEnd('.');
    }
}
