using System.Diagnostics;
using System.Runtime.InteropServices;
using KCacheNative.Console.Evaluation;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Agreement;

/// <summary>
/// The demonstration model on the scalar kernels, on AVX2, on AVX-512 and on a CUDA device gives the same greedy tokens: a GPU where there
/// is one, else the machine made of software. Where two tokens are as good as equally likely, either is right.
/// </summary>
public class AgreementTests
{
    private string _folder = "";
    private float[][] _scalar = null!;
    private int[] _ids = null!;

    [OneTimeSetUp]
    public void RunTheScalarKernels()
    {
        _folder = Directory.CreateTempSubdirectory("kcache-agreement-").FullName;
        _scalar = RunProcess(Backend.Cpu, "scalar", null, out _);
        _ids = MemoryMarshal.Cast<byte, int>(File.ReadAllBytes(Path.Combine(_folder, "ids"))).ToArray();
    }

    [OneTimeTearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void TheTextIsWorthComparing()
    {
        Assert.That(_ids, Has.Length.EqualTo(AgreementCases.All.Length * AgreementCases.Steps));
        foreach (int[] text in _ids.Chunk(AgreementCases.Steps))
            Assert.That(text.Distinct().Count(), Is.GreaterThan(8), "a text that repeats itself proves little");
    }

    [TestCase("avx2")]
    [TestCase("avx512")]
    public void InstructionSetsAgree(string isa)
    {
        string best = DeviceInfo.List(Backend.Cpu)[0].InstructionSet;
        if (best == "scalar" || (best == "avx2" && isa == "avx512"))
            Assert.Ignore($"this machine has no {isa}.");
        AssertAgree(RunProcess(Backend.Cpu, isa, null, out _));
    }

    [Test]
    public void ACudaDeviceAgrees()
    {
        string? library = CudaLibrary();
        AssertAgree(RunProcess(Backend.Cuda, null, library, out string output));
        if (library is not null)
            Assert.That(output, Does.Not.Contain("cuBLAS 0"), "the products of the prompt were cuBLAS's");
    }

    private void AssertAgree(float[][] found)
    {
        Assert.That(found, Has.Length.EqualTo(_scalar.Length));
        Assert.Multiple(() =>
        {
            for (int i = 0; i < AgreementCases.All.Length; i++)
                AssertAgree(AgreementCases.All[i].Name, AgreementCases.All[i].Tolerance, found, i * AgreementCases.Steps);
        });
    }

    private void AssertAgree(string name, float tolerance, float[][] found, int begin)
    {
        var differences = new List<float>();
        var ties = new List<string>();
        for (int row = begin; row < begin + AgreementCases.Steps; row++)
        {
            float[] expected = _scalar[row];
            differences.Add(expected.Zip(found[row], (a, b) => Math.Abs(a - b)).Max());
            int best = NextTokenDistribution.ArgMax(found[row]);
            if (best == _ids[row])
                continue;
            float lead = expected[_ids[row]] - expected[best];
            ties.Add($"step {row - begin}: {best} instead of {_ids[row]}, whose logit leads by {lead}");
            Assert.That(lead, Is.LessThan(2 * tolerance), $"{name}, {ties[^1]}");
        }

        differences.Sort();
        float worst = differences[^1], median = differences[differences.Count / 2];
        TestContext.Out.WriteLine($"{name}: logits within {worst}, in half of the steps within {median}{string.Concat(ties.Select(tie => "; " + tie))}");
        Assert.That(worst, Is.LessThan(tolerance), $"{name}: the largest difference of a logit");
        Assert.That(median, Is.LessThan(AgreementCases.MedianTolerance), $"{name}: the largest difference of a logit, median over the steps");
    }

    /// <summary>Null where the library that is loaded here has a device.</summary>
    private static string? CudaLibrary()
    {
        try
        {
            _ = DeviceInfo.List(Backend.Cuda);
            return null;
        }
        catch (KCacheException problem) when (problem.Status == Status.Unsupported)
        {
            return TestEnvironment.SimulatedLibrary;
        }
    }

    private float[][] RunProcess(Backend backend, string? isa, string? library, out string output)
    {
        string logits = Path.Combine(_folder, $"{backend}-{isa}");
        string[] args = [typeof(AgreementTests).Assembly.Location, $"{backend}", logits, Path.Combine(_folder, "ids")];
        var start = new ProcessStartInfo("dotnet", args) { RedirectStandardOutput = true, RedirectStandardError = true };
        if (isa is not null)
            start.Environment["KCACHE_ISA"] = isa;
        if (library is not null)
            start.Environment["KCACHE_LIBRARY"] = start.Environment["KCACHE_CUBLAS"] = library;
        using var process = Process.Start(start)!;
        var read = process.StandardOutput.ReadToEndAsync();
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        output = read.Result;
        Assert.That(process.ExitCode, Is.Zero, output + error);
        float[] all = MemoryMarshal.Cast<byte, float>(File.ReadAllBytes(logits)).ToArray();
        return [.. all.Chunk(all.Length / (AgreementCases.All.Length * AgreementCases.Steps))];
    }
}
