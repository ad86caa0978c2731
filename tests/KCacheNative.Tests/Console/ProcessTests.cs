using System.Diagnostics;
using System.Text.Json;
using KCacheNative.Console;

namespace KCacheNative.Tests.Console;

/// <summary>The console as a process: what only a process shows.</summary>
public class ProcessTests
{
    [Test]
    public void SuccessIsZeroAndTheOutputIsJsonAlone()
    {
        var (code, output, error) = Run("tokenize", "demo", "-p", "Who keeps Ivory Manor?", "--json");

        Assert.That(code, Is.Zero, error);
        Assert.That(error, Is.Empty);
        using var report = JsonDocument.Parse(output);
        Assert.That(report.RootElement.GetProperty("ids").GetArrayLength(), Is.EqualTo(6));
    }

    [TestCase("run demo", ExitCode.Usage)]
    [TestCase("inspect /nowhere.gguf", ExitCode.Usage)]
    [TestCase("nosuch", ExitCode.Usage)]
    public void FailuresHaveAnExitCodeAndOneLine(string line, int expected)
    {
        var (code, output, error) = Run(line.Split(' '));

        Assert.That(code, Is.EqualTo(expected));
        Assert.That(output, Is.Empty);
        Assert.That(error.TrimEnd().Split('\n'), Has.Length.EqualTo(1), error);
    }

    [Test]
    [Platform(Include = "Linux", Reason = "signals are sent with kill, and set with env")]
    public void CtrlCStopsARunCleanly()
    {
        // whoever runs the tests in the background has SIGINT ignored, and programs inherit that
        using var process = StartProgram("env", "--default-signal=INT", "dotnet", Program, "run", "demo", "-p", "The", "-n", "8000", "--ignore-eos");
        char[] first = new char[1];
        Assert.That(process.StandardOutput.Read(first), Is.EqualTo(1), "it generates");
        using (var kill = Process.Start("kill", ["-INT", $"{process.Id}"]))
            kill.WaitForExit();
        string rest = process.StandardOutput.ReadToEnd();
        string error = process.StandardError.ReadToEnd();

        Assert.That(process.WaitForExit(TimeSpan.FromSeconds(30)), Is.True);
        Assert.That(process.ExitCode, Is.EqualTo(ExitCode.Cancelled), error);
        Assert.That(rest, Does.EndWith("\n"), "the line is ended");
        Assert.That(error, Is.Empty);
    }

    private static (int Code, string Output, string Error) Run(params string[] args)
    {
        using var process = Start(args);
        var error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.Result);
    }

    // the console is a reference of the tests, so it lies beside them
    private static string Program => Path.Combine(AppContext.BaseDirectory, "kcache.dll");

    private static Process Start(params string[] args) => StartProgram("dotnet", [Program, .. args]);

    private static Process StartProgram(string program, params string[] args) =>
        Process.Start(new ProcessStartInfo(program, args) { RedirectStandardOutput = true, RedirectStandardError = true })!;
}
