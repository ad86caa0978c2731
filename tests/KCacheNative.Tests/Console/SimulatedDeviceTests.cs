using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using KCacheNative.Console;
using KCacheNative.Formats;
using KCacheNative.Models;

namespace KCacheNative.Tests.Console;

/// <summary>The demonstration model through the CUDA backend on the machine made of software: the tokens that the CPU gives.</summary>
[Platform(Include = "Linux", Reason = "the machine made of software runs there")]
public class SimulatedDeviceTests
{
    // more than a page of 64 tokens, so that there are coded rows
    private const string Prompt =
        "The keeper of Ivory Manor is Patient Garrison. The flag of Patient Garrison is brown. A heron was seen at noon. "
        + "Who keeps Ivory Manor? The keeper of Ivory Manor is Patient Garrison. What is the flag of Patient Garrison? "
        + "The flag of Patient Garrison is brown. Which bird was seen? A heron was seen at noon. Who keeps Ivory Manor?";

    // AgreementTests goes through all policies and codecs; here each token is a step of its own, by the library's own products or cuBLAS's
    [TestCase("--policy full")]
    [TestCase("--policy kcache --keep 8 --recent 8 --select union --v-codec q8")]
    [TestCase("--policy sketch --keep 8 --recent 8")]
    [TestCase("--policy sketch --keep 8 --recent 8", true)]
    public void GreedyTokensAreThoseOfTheCpu(string policy, bool byCuBlas = false)
    {
        int[] found = Generate(policy, TestEnvironment.SimulatedLibrary, byCuBlas);
        int[] expected = Generate(policy, null);

        Assert.That(expected, Has.Length.EqualTo(64));
        Assert.That(found, Is.EqualTo(expected));
    }

    // 63 steps, of which the first of each shape are run call by call
    [TestCase("--policy full")]
    [TestCase("--policy sketch --keep 8 --recent 8")]
    public void StepsAreReplayedAsGraphsWithTheSameTokens(string policy)
    {
        int[] without = Generate(policy, TestEnvironment.SimulatedLibrary, out int launchedWithout, graphs: false);
        int[] with = Generate(policy, TestEnvironment.SimulatedLibrary, out int launched);

        Assert.That(with, Is.EqualTo(without));
        Assert.That(launchedWithout, Is.Zero);
        Assert.That(launched, Is.InRange(50, 63));
    }

    [Test]
    public void TheDeviceIsListedWithItsMemory()
    {
        var backends = Json(TestEnvironment.SimulatedLibrary, "devices", "--json").GetProperty("backends");
        var device = backends[1].GetProperty("devices")[0];

        Assert.That(backends[1].GetProperty("found").GetBoolean(), Is.True);
        Assert.That(backends[1].TryGetProperty("problem", out _), Is.False);
        Assert.That(device.GetProperty("name").GetString(), Is.EqualTo("simulated"));
        Assert.That(device.GetProperty("memory_bytes").GetInt64(), Is.Positive);
    }

    [Test]
    public void CuBlasIsFoundOrSaidToBeMissing()
    {
        JsonElement Device(string? cuBlas) =>
            JsonDocument.Parse(Call(TestEnvironment.SimulatedLibrary, cuBlas, "devices", "--json").Output).RootElement.GetProperty("backends")[1].GetProperty("devices")[0];
        var with = Device(TestEnvironment.SimulatedLibrary);
        var without = Device("/nowhere/libcublas.so");

        Assert.That(with.GetProperty("cublas_version").GetInt32(), Is.Positive);
        Assert.That(with.TryGetProperty("cublas_problem", out _), Is.False);
        Assert.That(without.TryGetProperty("cublas_version", out _), Is.False);
        Assert.That(without.GetProperty("cublas_problem").GetString(), Does.Contain("/nowhere/libcublas.so").And.Contain("slower"));
    }

    [TestCase("auto", "cuda")]
    [TestCase("cuda", "cuda")]
    [TestCase("cpu", "cpu")]
    public void TheBackendAskedForComputes(string asked, string expected)
    {
        var run = Json(TestEnvironment.SimulatedLibrary, "run", "demo", "-p", "The", "-n", "2", "--backend", asked, "--json");

        Assert.That(run.GetProperty("backend").GetString(), Is.EqualTo(expected));
    }

    [Test]
    public void ThePlanCountsDeviceAndPinnedMemoryAndARunTakesThem()
    {
        string[] cache = ["--policy", "sketch", "--context", "8192", "--keep", "8"];
        var free = Json(TestEnvironment.SimulatedLibrary, ["plan", "demo", .. cache, "--json"]);
        long smallest = free.GetProperty("policies")[0].GetProperty("fast_minimum_bytes").GetInt64();
        string[] tight = [.. cache, "--fast-budget", $"{smallest}", "--json"];
        var plan = Json(TestEnvironment.SimulatedLibrary, ["plan", "demo", .. tight]);
        var run = Json(TestEnvironment.SimulatedLibrary, ["run", "demo", "-p", Prompt, "-n", "2", .. tight]).GetProperty("cache");
        var planned = plan.GetProperty("policies")[0];

        Assert.That(plan.GetProperty("backend").GetString(), Is.EqualTo("cuda"));
        Assert.That(plan.GetProperty("device").GetString(), Is.EqualTo("simulated"));
        Assert.That(plan.GetProperty("fast_home").GetString(), Is.EqualTo("device"));
        Assert.That(plan.GetProperty("slow_home").GetString(), Is.EqualTo("pinned"));
        Assert.That(planned.GetProperty("fast_bytes").GetInt64(), Is.LessThanOrEqualTo(smallest));
        Assert.That(planned.GetProperty("slow_bytes").GetInt64(), Is.Positive);
        Assert.That(run.GetProperty("fast_bytes").GetInt64(), Is.EqualTo(planned.GetProperty("fast_bytes").GetInt64()));
        Assert.That(Run(TestEnvironment.SimulatedLibrary, ["plan", "demo", .. tight[..^1]]), Does.Contain("Device memory").And.Contain("Pinned RAM").And.Contain("simulated"));
    }

    [Test]
    public void ThePlanCountsWhatCuBlasTakesAndARunTakesThat()
    {
        using var file = GgufFile.Open(TestEnvironment.DemoModelPath);
        var config = ModelConfig.FromGguf(file);
        string library = TestEnvironment.SimulatedLibrary;
        string[] cache = ["--policy", "full", "--context", "256"];
        string[] plan = ["plan", "demo", .. cache], run = ["run", "demo", "-p", Prompt, "-n", "1", .. cache, "--json"];
        JsonElement Planned(string? cuBlas) => JsonDocument.Parse(Call(library, cuBlas, [.. plan, "--json"]).Output).RootElement.GetProperty("policies")[0];
        JsonElement Taken(string? cuBlas) => JsonDocument.Parse(Call(library, cuBlas, run).Output).RootElement;

        long planned = Planned(library).GetProperty("cublas_bytes").GetInt64();
        // a workspace, and gate and up in floats, which are one batch
        Assert.That(planned, Is.EqualTo((32L << 20) + (2L * config.FeedForwardDimension * config.Dimension * sizeof(float))));
        Assert.That(Taken(library).GetProperty("cublas_bytes").GetInt64(), Is.EqualTo(planned));
        Assert.That(Call(library, library, plan).Output, Does.Match(@"activations .* and\s+cuBLAS\s+[0-9.]+ MiB\s+besides"));

        string nowhere = "/nowhere/libcublas.so";
        Assert.That(Planned(nowhere).TryGetProperty("cublas_bytes", out _), Is.False);
        Assert.That(Taken(nowhere).TryGetProperty("cublas_bytes", out _), Is.False);
        Assert.That(Call(library, nowhere, plan).Output, Does.Not.Contain("cuBLAS"));
    }

    // the one model that people use; a token takes seconds here
    [Test]
    public void SmolModelGivesTheTokensOfTheCpu()
    {
        string[] run =
        [
            "run", TestEnvironment.SmolModelPath, "-p", Prompt, "-n", "3", "--ignore-eos", "--temperature", "0", "--json",
            "--policy", "sketch", "--keep", "8", "--recent", "8",
        ];
        int[] found = Ids(Call(TestEnvironment.SimulatedLibrary, TestEnvironment.SimulatedLibrary, run));
        int[] expected = Ids(Call(null, null, run));

        Assert.That(expected, Has.Length.EqualTo(3));
        Assert.That(found, Is.EqualTo(expected));
    }

    [Test]
    public void ADeviceThatIsNotThereIsRefused()
    {
        var (code, _, error) = Call(TestEnvironment.SimulatedLibrary, null, "run", "demo", "-p", "x", "--backend", "cuda", "--device", "3");

        Assert.That(code, Is.EqualTo(ExitCode.Usage));
        Assert.That(error.TrimEnd(), Is.EqualTo("kcache: --device 3 is not there: `kcache devices` lists those from 0 to 0."));
    }

    private static int[] Generate(string policy, string? library, bool byCuBlas = false) =>
        Generate(policy, library, out _, byCuBlas);

    private static int[] Generate(string policy, string? library, out int launchedGraphs, bool byCuBlas = false, bool graphs = true)
    {
        string[] policyWords = policy.Split(' ');
        var result = Call(
            library,
            byCuBlas ? library : null,
            graphs,
            ["run", "demo", "-p", Prompt, "-n", "64", "--ignore-eos", "--temperature", "0", "--json", .. policyWords]);
        var launched = Regex.Match(result.Error, @"^simt: (\d+) graphs launched", RegexOptions.Multiline);
        launchedGraphs = launched.Success ? int.Parse(launched.Groups[1].Value, CultureInfo.InvariantCulture) : 0;
        Assert.That(launched.Success, Is.EqualTo(library is not null));
        return Ids(result);
    }

    private static int[] Ids((int Code, string Output, string Error) call)
    {
        Assert.That(call.Code, Is.Zero, call.Error);
        using var report = JsonDocument.Parse(call.Output);
        return [.. report.RootElement.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];
    }

    private static JsonElement Json(string library, params string[] args)
    {
        using var report = JsonDocument.Parse(Run(library, args));
        return report.RootElement.Clone();
    }

    private static string Run(string library, params string[] args)
    {
        var (code, output, error) = Call(library, null, args);
        Assert.That(code, Is.Zero, error);
        return output;
    }

    private static (int Code, string Output, string Error) Call(string? library, string? cuBlas, params string[] args) =>
        Call(library, cuBlas, null, args);

    private static (int Code, string Output, string Error) Call(string? library, string? cuBlas, bool? graphs, string[] args)
    {
        string program = Path.Combine(AppContext.BaseDirectory, "kcache.dll");
        var start = new ProcessStartInfo("dotnet", [program, .. args]) { RedirectStandardOutput = true, RedirectStandardError = true };
        if (library is not null)
            start.Environment["KCACHE_LIBRARY"] = library;
        if (graphs is { } replayed)
        {
            start.Environment["KCACHE_SIMT_REPORT"] = "1";
            start.Environment["KCACHE_CUDA_GRAPHS"] = replayed ? "1" : "0";
        }

        if (cuBlas is not null)
            start.Environment["KCACHE_CUBLAS"] = cuBlas;
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.Result);
    }
}
