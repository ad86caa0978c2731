using System.Buffers.Binary;
using System.Runtime.InteropServices;
using KCacheNative.Interop;

namespace KCacheNative.Tests.Interop;

/// <summary>What is tried, in what order, and what a failure says.</summary>
public class NativeLibraryLoaderTests
{
    private string _folder = "";

    [SetUp]
    public void CreateFolder() => _folder = Directory.CreateTempSubdirectory("kcache-loader-").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void TheBuiltLibraryIsFoundAndHasTheVersionOfTheAssembly() =>
        Assert.That(
            KCacheNative.Runtime.ComputeContext.NativeVersion,
            Is.EqualTo(typeof(NativeLibraryLoader).Assembly.GetName().Version!.ToString(3)));

    [Test]
    public void CandidatesComeInOrder()
    {
        if (Environment.GetEnvironmentVariable(NativeLibraryLoader.Variable) is { Length: > 0 } named)
        {
            Assert.That(NativeLibraryLoader.Candidates(), Is.EqualTo(new[] { Path.GetFullPath(named) }));
            return;
        }

        var files = NativeLibraryLoader.Candidates();
        Assert.That(files[0], Is.EqualTo(Path.Combine(AppContext.BaseDirectory, NativeLibraryLoader.FileName)));
        Assert.That(files[1], Does.Contain("runtimes").And.Contain(Path.Combine("native", NativeLibraryLoader.FileName)));
        Assert.That(files[^1], Is.EqualTo(NativeLibraryLoader.FileName), "at last the system is asked");
    }

    [Test]
    public void AFailureNamesEveryFileAndWhatHappenedToIt()
    {
        string missing = Path.Combine(_folder, "missing.so");
        string text = Path.Combine(_folder, "text.so");
        string empty = Path.Combine(_folder, "empty.so");
        File.WriteAllText(text, new string('x', 4096));
        File.WriteAllBytes(empty, []);
        var failure = Assert.Throws<KCacheException>(() => NativeLibraryLoader.Load([missing, text, empty], _ => null))!;
        Assert.That(failure.Message, Does.Contain($"{missing}: there is no such file"));
        Assert.That(failure.Message, Does.Contain($"{text}: it is no shared library"));
        Assert.That(failure.Message, Does.Contain($"{empty}: it is no shared library"));
        Assert.That(failure.Message, Does.Contain(NativeLibraryLoader.Variable), "the way out is named");
        Assert.That(failure.Message, Does.Not.Contain("\n"));
    }

    [TestCase((ushort)183, "Arm64")]
    [TestCase((ushort)62, "X64")]
    [TestCase((ushort)243, "machine 243")]
    public void AnotherMachineIsNamed(ushort machine, string name)
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture.ToString() == name)
            Assert.Ignore("on this machine that file would be right.");
        string file = WriteElf(machine);
        var failure = Assert.Throws<KCacheException>(() => NativeLibraryLoader.Load([file], _ => null))!;
        Assert.That(
            failure.Message, Does.Contain(
                $"{file}: it is built for {name} (ELF), this process is {RuntimeInformation.ProcessArchitecture} (ELF)"));
    }

    [Test]
    public void ALibraryOfAnotherSystemIsNamed()
    {
        if (OperatingSystem.IsWindows())
            Assert.Ignore("on Windows that file would be right.");
        var bytes = new byte[512];
        "MZ"u8.CopyTo(bytes);
        bytes[60] = 128;
        "PE\0\0"u8.CopyTo(bytes.AsSpan(128));
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(132), 0x8664);
        string file = Path.Combine(_folder, "kcache.dll");
        File.WriteAllBytes(file, bytes);
        Assert.That(
            () => NativeLibraryLoader.Load([file], _ => null),
            Throws.TypeOf<KCacheException>().With.Message.Contains("built for X64 (PE)"));
    }

    [Test]
    public void TheLoadersOwnReasonIsPassedOn()
    {
        if (!OperatingSystem.IsLinux())
            Assert.Ignore("the file is made for Linux.");
        string file = WriteElf((ushort)(RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 183 : 62));
        var failure = Assert.Throws<KCacheException>(() => NativeLibraryLoader.Load([file], _ => null))!;
        Assert.That(failure.Message, Does.Match($@"{System.Text.RegularExpressions.Regex.Escape(file)}: \S+"));
        Assert.That(failure.Message, Does.Not.Contain("Unable to load shared library"), "of the runtime's long message only the reason");
    }

    [Test]
    public void AnUnfitLibraryIsPassedOverWithItsReason()
    {
        string file = NativeLibraryLoader.Candidates().First(File.Exists);
        Assert.That(
            () => NativeLibraryLoader.Load([file], _ => "it has ABI 99"),
            Throws.TypeOf<KCacheException>().With.Message.Contains($"{file}: it has ABI 99"));
        Assert.That(NativeLibraryLoader.Load([file, "unused"], _ => null), Is.Not.Zero);
    }

    // A header without sections or segments: right at first sight, and nothing that a loader accepts.
    private string WriteElf(ushort machine)
    {
        var bytes = new byte[4096];
        new byte[] { 0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1 }.CopyTo(bytes, 0);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(16), 3);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(18), machine);
        string file = Path.Combine(_folder, $"machine-{machine}.so");
        File.WriteAllBytes(file, bytes);
        return file;
    }
}
