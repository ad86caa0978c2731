using KCacheNative.Interop;

namespace KCacheNative.Tests.Interop;

public class CuBlasLoaderTests
{
    [Test]
    public void TheNamesOfThreeCudasAreTried()
    {
        if (Environment.GetEnvironmentVariable(CuBlasLoader.Variable) is { Length: > 0 })
            Assert.Ignore($"{CuBlasLoader.Variable} is set.");
        foreach (int cuda in (int[])[13, 12, 11])
            Assert.That(CuBlasLoader.Candidates(), Has.Some.EqualTo(OperatingSystem.IsWindows() ? $"cublas64_{cuda}.dll" : $"libcublas.so.{cuda}"));
    }

    [Test]
    public void WhatIsMissingIsNamedWithTheWayOut() => Assert.That(
        () => CuBlasLoader.Load(["libnosuch.so.13", "libnosuch.so.12"]),
        Throws.TypeOf<KCacheException>().With.Message.Contains("libnosuch.so.13, libnosuch.so.12").And.Message.Contains(CuBlasLoader.Variable));

    [Test]
    public void AnotherLibraryIsNotTaken()
    {
        _ = NativeLibraryLoader.Handle;
        string other = NativeLibraryLoader.Candidates().First(File.Exists);

        Assert.That(() => CuBlasLoader.Load([other]), Throws.TypeOf<KCacheException>().With.Message.Contains(other));
    }

    [Test]
    public void AFailedCallNamesItsStatus()
    {
        CuBlasStatus.Success.ThrowIfFailed("nothing");
        Assert.That(
            () => CuBlasStatus.ExecutionFailed.ThrowIfFailed("a product"),
            Throws.TypeOf<KCacheException>().With.Message.EqualTo("cuBLAS: a product failed with status 13 (ExecutionFailed)"));
    }
}
