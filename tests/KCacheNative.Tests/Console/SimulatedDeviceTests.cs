using System.Diagnostics;
using System.Text.Json;

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
    public void TheDeviceIsListed()
    {
        Assert.That(Run(SimulatedLibrary, "devices", "--json"), Does.Contain("simulated"));
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
        string output = Run(
            library, ["run", "demo", "-p", Prompt, "-n", "64", "--ignore-eos", "--temperature", "0", "--json", .. policyWords]);
        using var report = JsonDocument.Parse(output);
        return [.. report.RootElement.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];
    }

    private static string Run(string? library, params string[] args)
    {
        string program = Path.Combine(AppContext.BaseDirectory, "kcache.dll");
        var start = new ProcessStartInfo("dotnet", [program, .. args]) { RedirectStandardOutput = true, RedirectStandardError = true };
        if (library is not null)
            start.Environment["KCACHE_LIBRARY"] = library;
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.That(process.ExitCode, Is.Zero, error.Result);
        return output;
    }
}
