using System.CommandLine;
using KCacheNative.Console;

namespace KCacheNative.Tests.Console;

public class HelpTests
{
    private static readonly string[] Commands = ["compare", "run", "chat", "plan", "eval", "inspect", "tokenize", "devices"];

    private static readonly string[] PolicyWords =
    [
        "--context", "--backend", "--device", "--policy", "--keep", "--keep-max", "--sinks", "--recent", "--dense-layers", "--max-tail", "--max-error", "--mode", "--select",
        "--k-codec", "--v-codec", "--v-sketch", "--activations", "--fast-budget", "--spill-dir", "--threads", "--batch-tokens",
    ];

    [TestCase("--help")]
    [TestCase("")]
    public async Task TheProgramListsItsCommands(string argument)
    {
        var call = await ConsoleCall.RunAsync(argument.Length == 0 ? [] : [argument]);

        Assert.That(call.ExitCode, Is.Zero);
        Assert.That(call.Error, Is.Empty);
        foreach (string command in Commands)
            Assert.That(call.Output, Does.Contain($"\n  {command}"));
        Assert.That(call.Output, Does.Contain("Exit codes: 0 success"));
    }

    [TestCaseSource(nameof(Commands))]
    public async Task EveryCommandExplainsItselfAndEveryOption(string name)
    {
        var call = await ConsoleCall.RunAsync(name, "--help");
        Assert.That(call.ExitCode, Is.Zero);
        Assert.That(call.Error, Is.Empty);

        var root = Application.CreateRoot(Terminal.Of(TextReader.Null, TextWriter.Null, TextWriter.Null));
        var command = root.Subcommands.Single(c => c.Name == name);
        Assert.That(command.Description, Is.Not.Empty);
        foreach (var option in command.Options.Where(option => !option.Hidden))
        {
            Assert.That(call.Output, Does.Contain(option.Name));
            Assert.That(option.Description, Is.Not.Empty, option.Name);
        }
    }

    [TestCase("run")]
    [TestCase("chat")]
    [TestCase("compare")]
    [TestCase("plan")]
    [TestCase("eval")]
    public async Task PolicyOptionsAreTheSameEverywhere(string name)
    {
        var call = await ConsoleCall.RunAsync(name, "--help");

        foreach (string option in PolicyWords)
            Assert.That(call.Output, Does.Contain($"  {option} <"));
    }

    [Test]
    public async Task HelpTellsDefaultsThatDependOnThePolicy()
    {
        var call = await ConsoleCall.RunAsync("run", "--help");

        Assert.That(call.Output, Does.Contain("default: 64; sketch: 32"));
        Assert.That(call.Output, Does.Contain("default: 1; sketch: 0"));
        Assert.That(call.Output, Does.Contain("default: f16; sketch: q4"));
    }

    [Test]
    public async Task TheVersionIsTold()
    {
        var call = await ConsoleCall.RunAsync("--version");

        Assert.That(call.ExitCode, Is.Zero);
        Assert.That(call.Output, Does.Match(@"\A\d+\.\d+\.\d+"));
    }
}
