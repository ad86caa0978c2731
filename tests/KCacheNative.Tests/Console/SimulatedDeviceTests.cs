using System.Diagnostics;
using System.Text.Json;
using KCacheNative.Console;

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

    [TestCase("--policy full")]
    [TestCase("--policy full --k-codec q8 --v-codec q8")]
    [TestCase("--policy full --k-codec q4 --v-codec q4")]
    [TestCase("--policy window --recent 48")]
    [TestCase("--policy kcache --keep 8 --recent 8")]
    [TestCase("--policy kcache --keep 8 --recent 8 --select union --v-codec q8")]
    [TestCase("--policy sketch --keep 8 --recent 8")]
    public void GreedyTokensAreThoseOfTheCpu(string policy)
    {
        int[] found = Generate(policy, SimulatedLibrary);
        int[] expected = Generate(policy, null);

        Assert.That(expected, Has.Length.EqualTo(64));
        Assert.That(found, Is.EqualTo(expected));
    }

    [Test]
    public void TheDeviceIsListedWithItsMemory()
    {
        var backends = Json(SimulatedLibrary, "devices", "--json").GetProperty("backends");
        var device = backends[1].GetProperty("devices")[0];

        Assert.That(backends[1].GetProperty("found").GetBoolean(), Is.True);
        Assert.That(backends[1].TryGetProperty("problem", out _), Is.False);
        Assert.That(device.GetProperty("name").GetString(), Is.EqualTo("simulated"));
        Assert.That(device.GetProperty("memory_bytes").GetInt64(), Is.Positive);
    }

    [TestCase("auto", "cuda")]
    [TestCase("cuda", "cuda")]
    [TestCase("cpu", "cpu")]
    public void TheBackendAskedForComputes(string asked, string expected)
    {
        var run = Json(SimulatedLibrary, "run", "demo", "-p", "The", "-n", "2", "--backend", asked, "--json");

        Assert.That(run.GetProperty("backend").GetString(), Is.EqualTo(expected));
    }

    [Test]
    public void ThePlanCountsDeviceAndPinnedMemoryAndARunTakesThem()
    {
        string[] cache = ["--policy", "sketch", "--context", "512", "--keep", "8"];
        var free = Json(SimulatedLibrary, ["plan", "demo", .. cache, "--json"]);
        long smallest = free.GetProperty("policies")[0].GetProperty("fast_minimum_bytes").GetInt64();
        string[] tight = [.. cache, "--fast-budget", $"{smallest}", "--json"];
        var plan = Json(SimulatedLibrary, ["plan", "demo", .. tight]);
        var run = Json(SimulatedLibrary, ["run", "demo", "-p", Prompt, "-n", "2", .. tight]).GetProperty("cache");
        var planned = plan.GetProperty("policies")[0];

        Assert.That(plan.GetProperty("backend").GetString(), Is.EqualTo("cuda"));
        Assert.That(plan.GetProperty("device").GetString(), Is.EqualTo("simulated"));
        Assert.That(plan.GetProperty("fast_home").GetString(), Is.EqualTo("device"));
        Assert.That(plan.GetProperty("slow_home").GetString(), Is.EqualTo("pinned"));
        Assert.That(planned.GetProperty("fast_bytes").GetInt64(), Is.LessThanOrEqualTo(smallest));
        Assert.That(planned.GetProperty("slow_bytes").GetInt64(), Is.Positive);
        Assert.That(run.GetProperty("fast_bytes").GetInt64(), Is.EqualTo(planned.GetProperty("fast_bytes").GetInt64()));
        Assert.That(Run(SimulatedLibrary, ["plan", "demo", .. tight[..^1]]), Does.Contain("Device memory").And.Contain("Pinned RAM").And.Contain("simulated"));
    }

    [Test]
    public void ADeviceThatIsNotThereIsRefused()
    {
        var (code, _, error) = Call(SimulatedLibrary, "run", "demo", "-p", "x", "--backend", "cuda", "--device", "3");

        Assert.That(code, Is.EqualTo(ExitCode.Usage));
        Assert.That(error.TrimEnd(), Is.EqualTo("kcache: --device 3 is not there: `kcache devices` lists those from 0 to 0."));
    }

    private static string SimulatedLibrary
    {
        get
        {
            string library = Path.Combine(
                TestEnvironment.RepositoryRoot, "artifacts", "cmake", "simt", "tests", "simt", "libkcache_simt.so");
            if (!File.Exists(library))
                Assert.Ignore($"{library} is missing: './build.sh simt' builds it.");
            return library;
        }
    }

    private static int[] Generate(string policy, string? library)
    {
        string[] policyWords = policy.Split(' ');
        var report = Json(
            library, ["run", "demo", "-p", Prompt, "-n", "64", "--ignore-eos", "--temperature", "0", "--json", .. policyWords]);
        return [.. report.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];
    }

    private static JsonElement Json(string? library, params string[] args)
    {
        using var report = JsonDocument.Parse(Run(library, args));
        return report.RootElement.Clone();
    }

    private static string Run(string? library, params string[] args)
    {
        var (code, output, error) = Call(library, args);
        Assert.That(code, Is.Zero, error);
        return output;
    }

    private static (int Code, string Output, string Error) Call(string? library, params string[] args)
    {
        string program = Path.Combine(AppContext.BaseDirectory, "kcache.dll");
        var start = new ProcessStartInfo("dotnet", [program, .. args]) { RedirectStandardOutput = true, RedirectStandardError = true };
        if (library is not null)
            start.Environment["KCACHE_LIBRARY"] = library;
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.Result);
    }
}
