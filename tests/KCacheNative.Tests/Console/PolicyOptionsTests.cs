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
    public void WhatDoesNotGoTogetherIsLeftForTheCacheToRefuse() =>
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
        Assert.That(() => Read("--keep 64 --keep-max 32"), Throws.TypeOf<UsageException>().With.Message.Contains("--keep-max 32").And.Message.Contains("--keep 64"));

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
