using System.Text.Json;
using KCacheNative.Console;

namespace KCacheNative.Tests.Console;

/// <summary>A call of the console within this process, and what came of it.</summary>
/// <param name="ExitCode">As the process would have returned it.</param>
/// <param name="Output">What stood on the standard output.</param>
/// <param name="Error">What stood on the error stream.</param>
internal sealed record ConsoleCall(int ExitCode, string Output, string Error)
{
    internal static async Task<ConsoleCall> RunAsync(params string[] args) => await RunAsync("", args);

    internal static async Task<ConsoleCall> RunAsync(string input, string[] args)
    {
        using StringWriter output = new(), error = new();
        int code = await Application.RunAsync(args, Terminal.Of(new StringReader(input), output, error));
        return new ConsoleCall(code, output.ToString(), error.ToString());
    }

    /// <summary>Makes a call that must succeed and print one JSON object and nothing else.</summary>
    internal static async Task<JsonElement> JsonAsync(params string[] args)
    {
        var call = await RunAsync(args);
        Assert.That(call.ExitCode, Is.Zero, call.Error);
        Assert.That(call.Error, Is.Empty);
        using var document = JsonDocument.Parse(call.Output);
        return document.RootElement.Clone();
    }

    /// <summary>Holds what every failing call must: an exit code from 1 to 125, one sentence on one line, nothing on the output.</summary>
    internal void AssertRefused(int exitCode, params string[] mentions)
    {
        Assert.That(ExitCode, Is.EqualTo(exitCode), Error);
        Assert.That(Output, Is.Empty);
        Assert.That(Error.TrimEnd().Split('\n'), Has.Length.EqualTo(1), Error);
        Assert.That(Error, Does.StartWith("kcache: "));
        Assert.That(Error, Does.Not.Contain("   at "));
        foreach (string mention in mentions)
            Assert.That(Error, Does.Contain(mention));
    }
}
