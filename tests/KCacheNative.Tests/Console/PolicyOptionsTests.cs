using System.CommandLine;
using KCacheNative.Console;
using KCacheNative.Console.Options;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Console;

public class PolicyOptionsTests
{
    [Test]
    public void WithoutOptionsThePolicyIsTheDefault() =>
        Assert.That(Read(""), Is.EqualTo(CachePolicy.For(PolicyOptions.DefaultPolicy)));

    [TestCase("full", PolicyKind.Full)]
    [TestCase("window", PolicyKind.Window)]
    [TestCase("kcache", PolicyKind.KCache)]
    [TestCase("sketch", PolicyKind.Sketch)]
    public void APolicyBringsItsOwnDefaults(string word, PolicyKind kind) =>
        Assert.That(Read($"--policy {word}"), Is.EqualTo(CachePolicy.For(kind)));

    [Test]
    public void KCacheTakesItsOptions() => Assert.That(
        Read("--policy kcache --keep 16 --keep-max 99 --sinks 2 --recent 8 --dense-layers 3 --max-tail 0.25 --max-error 0.5 --mode exact-weights "
            + "--select union --k-codec q8 --v-codec q8"),
        Is.EqualTo(CachePolicy.KCache with
        {
            Keep = 16,
            KeepMax = 99,
            Sinks = 2,
            Recent = 8,
            DenseLayers = 3,
            MaxTail = 0.25f,
            MaxError = 0.5f,
            Mode = MixMode.ExactWeights,
            Select = RowSelection.Union,
            KeyCodec = Codec.Q8,
            ValueCodec = Codec.Q8,
        }));

    [Test]
    public void SketchTakesItsOptions() => Assert.That(
        Read("--policy sketch --keep 0 --k-codec q3 --v-sketch q4"),
        Is.EqualTo(CachePolicy.Sketch with { Keep = 0, KeyCodec = Codec.Q3, ValueSketch = Codec.Q4 }));

    [Test]
    public void CodecsThatAPolicyDoesNotOfferAreLeftForTheCacheToRefuse() =>
        Assert.That(Read("--policy kcache --k-codec q4 --v-sketch q2"), Is.EqualTo(CachePolicy.KCache with { KeyCodec = Codec.Q4, ValueSketch = Codec.Q2 }));

    [Test]
    public void AmongSeveralPoliciesEachTakesWhatMeansSomethingToIt()
    {
        var (options, call) = Parse("--keep 8 --k-codec q4 --v-sketch q3 --dense-layers 2");

        Assert.That(options.ReadFor(call, PolicyKind.KCache), Is.EqualTo(CachePolicy.KCache with { Keep = 8, DenseLayers = 2 }));
        Assert.That(options.ReadFor(call, PolicyKind.Sketch),
            Is.EqualTo(CachePolicy.Sketch with { Keep = 8, DenseLayers = 2, KeyCodec = Codec.Q4, ValueSketch = Codec.Q3 }));
    }

    [Test]
    public void ACapBelowNIsRefused() =>
        Assert.That(() => Read("--keep 64 --keep-max 32 --max-tail 0.1"), Throws.TypeOf<UsageException>().With.Message.Contains("--keep-max 32").And.Message.Contains("--keep 64"));

    [TestCase("--policy full --keep 64", "--keep", "--policy full", "kcache or sketch")]
    [TestCase("--policy full --sinks 4", "--sinks", "--policy full", "window or kcache or sketch")]
    [TestCase("--policy full --recent 4", "--recent", "--policy full", "window or kcache or sketch")]
    [TestCase("--policy window --keep 64", "--keep", "--policy window", "kcache or sketch")]
    [TestCase("--policy window --max-tail 0.1 --keep-max 9", "--keep-max", "--policy window", "kcache or sketch")]
    [TestCase("--policy window --dense-layers 0", "--dense-layers", "--policy window", "kcache or sketch")]
    [TestCase("--policy window --max-tail 0.1", "--max-tail", "--policy window", "kcache or sketch")]
    [TestCase("--policy window --max-error 0.1", "--max-error", "--policy window", "kcache or sketch")]
    [TestCase("--policy window --select union", "--select", "--policy window", "kcache or sketch")]
    [TestCase("--policy window --mode exact-weights", "--mode", "--policy window", "choose --policy kcache.")]
    [TestCase("--policy sketch --mode renormalized", "--mode", "--policy sketch;", "choose --policy kcache.")]
    [TestCase("--mode exact-weights", "--mode", "--policy sketch, the default;", "choose --policy kcache.")]
    [TestCase("--keep-max 64", "--keep-max", "--max-tail or --max-error")]
    public void AnOptionWithoutEffectIsRefused(string args, string option, params string[] mentions)
    {
        var refusal = Assert.Throws<UsageException>(() => Read(args))!;

        Assert.That(refusal.Message, Does.StartWith($"{option} has no effect "));
        foreach (string mention in mentions)
            Assert.That(refusal.Message, Does.Contain(mention));
    }

    [TestCase("full", "--k-codec q4 --v-codec q8")]
    [TestCase("window", "--sinks 2 --recent 64 --k-codec q8 --v-codec q8")]
    [TestCase("sketch", "--keep 8 --keep-max 64 --sinks 2 --recent 64 --dense-layers 1 --max-tail 0.1 --max-error 0.1 --select union --k-codec q8 --v-sketch q3")]
    public void AnOptionWithEffectIsHeeded(string policy, string args)
    {
        string[] words = args.Split(' ');
        for (int i = 0; i < words.Length; i += 2)
        {
            string option = $"{words[i]} {words[i + 1]}{(words[i] == "--keep-max" ? " --max-tail 0.1" : "")}";
            var without = Read($"--policy {policy}{(words[i] == "--keep-max" ? " --max-tail 0.1" : "")}");

            Assert.That(Read($"--policy {policy} {option}"), Is.Not.EqualTo(without), option);
        }
    }

    [TestCase("--keep -1", "--keep takes a whole number from 0 up, not '-1'.")]
    [TestCase("--keep 1.5", "--keep takes a whole number from 0 up, not '1.5'.")]
    [TestCase("--keep 99999999999", "--keep takes a whole number from 0 up, not '99999999999'.")]
    [TestCase("--sinks 65", "--sinks takes a whole number from 0 to 64, not '65'.")]
    [TestCase("--recent 0", "--recent takes a whole number from 1 up, not '0'.")]
    [TestCase("--max-tail 1", "--max-tail takes a number from 0 to below 1, not '1'.")]
    [TestCase("--max-tail NaN", "--max-tail takes a number from 0 to below 1, not 'NaN'.")]
    [TestCase("--policy nosuch", "--policy takes full, window, kcache or sketch, not 'nosuch'.")]
    [TestCase("--k-codec q5", "--k-codec takes f16, q8, q4, q3 or q2, not 'q5'.")]
    [TestCase("--mode other", "--mode takes renormalized or exact-weights, not 'other'.")]
    public void WrongValuesAreNamed(string args, string message) =>
        Assert.That(Parse(args).Call.Errors.Select(error => error.Message), Is.EqualTo(new[] { message }));

    private static CachePolicy Read(string args)
    {
        var (options, call) = Parse(args);
        Assert.That(call.Errors, Is.Empty);
        return options.Read(call);
    }

    private static (PolicyOptions Options, ParseResult Call) Parse(string args)
    {
        var options = new PolicyOptions();
        var command = new Command("test");
        options.AddTo(command);
        return (options, command.Parse(args));
    }
}
