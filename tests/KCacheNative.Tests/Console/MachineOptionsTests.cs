using System.CommandLine;
using KCacheNative.Console;
using KCacheNative.Console.Options;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Console;

public class MachineOptionsTests
{
    [TestCase(100, 20, 8192, ExpectedResult = 128)]
    [TestCase(100, 28, 8192, ExpectedResult = 128)]
    [TestCase(100, 29, 8192, ExpectedResult = 192)]
    [TestCase(8000, 256, 8192, ExpectedResult = 8192)]
    [TestCase(8192, 256, 8192, ExpectedResult = 8192)]
    [TestCase(1, int.MaxValue, 2048, ExpectedResult = 2048)]
    public int TheContextIsWhatPromptAndTokensNeed(int prompt, int tokens, int trained) => ContextFor("", prompt, tokens, trained);

    [Test]
    public void AGivenContextIsTaken() => Assert.That(ContextFor("--context 100", 50, 256, 8192), Is.EqualTo(100));

    [Test]
    public void AGivenContextMayExceedTheModels() => Assert.That(ContextFor("--context 32768", 9000, 256, 8192), Is.EqualTo(32768));

    [Test]
    public void APromptBeyondAGivenContextIsRefused() => Assert.That(
        () => ContextFor("--context 64", 65, 256, 8192),
        Throws.TypeOf<UsageException>().With.Message.Contains("65 tokens").And.Message.Contains("--context 64"));

    [Test]
    public void APromptBeyondTheModelIsRefused() => Assert.That(
        () => ContextFor("", 8193, 256, 8192),
        Throws.TypeOf<UsageException>().With.Message.Contains("8193").And.Message.Contains("8192").And.Message.Contains("--context 8512"));

    [Test]
    public void OptionsReachTheRuntime()
    {
        var (options, call) = Parse("--fast-budget 1.5MiB --spill-dir /x --batch-tokens 7 --activations f32 --threads 3 --backend cpu");

        Assert.That(options.ReadCache(call, 99, 2), Is.EqualTo(new CacheOptions
        {
            Context = 99,
            Sequences = 2,
            BatchTokens = 7,
            FastBudgetBytes = 3 << 19,
            SpillDirectory = "/x",
        }));
        Assert.That(options.ReadContext(call), Is.EqualTo(new ContextOptions { Backend = Backend.Cpu, Threads = 3, Activations = Activations.F32 }));
    }

    [Test]
    public void WithoutOptionsTheRuntimeDecides()
    {
        var (options, call) = Parse("");

        Assert.That(options.ReadCache(call, 99), Is.EqualTo(new CacheOptions { Context = 99 }));
        Assert.That(options.ReadContext(call), Is.EqualTo(new ContextOptions()));
    }

    private static int ContextFor(string args, int prompt, int tokens, int trained)
    {
        var (options, call) = Parse(args);
        return options.ContextFor(call, prompt, tokens, trained);
    }

    private static (MachineOptions Options, ParseResult Call) Parse(string args)
    {
        var options = new MachineOptions("");
        var command = new Command("test");
        options.AddTo(command);
        return (options, command.Parse(args));
    }
}
