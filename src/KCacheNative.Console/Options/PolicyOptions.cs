using System.CommandLine;
using System.CommandLine.Parsing;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Options;

/// <summary>How the cache keeps and reads its rows: the same options in every command that runs a model.</summary>
internal sealed class PolicyOptions
{
    /// <summary>The policy where none is named.</summary>
    internal const PolicyKind DefaultPolicy = PolicyKind.Sketch;

    private static readonly (string, PolicyKind)[] PolicyWords =
        [("full", PolicyKind.Full), ("window", PolicyKind.Window), ("kcache", PolicyKind.KCache), ("sketch", PolicyKind.Sketch)];
    private static readonly (string, Codec)[] AllCodecs =
        [("f16", Codec.F16), ("q8", Codec.Q8), ("q4", Codec.Q4), ("q3", Codec.Q3), ("q2", Codec.Q2)];
    private static readonly (string, Codec)[] SketchCodecs = [("q2", Codec.Q2), ("q3", Codec.Q3), ("q4", Codec.Q4)];
    private static readonly (string, MixMode)[] Modes = [("renormalized", MixMode.Renormalized), ("exact-weights", MixMode.ExactWeights)];
    private static readonly (string, RowSelection)[] Selections = [("group", RowSelection.Group), ("union", RowSelection.Union)];

    private readonly Option<PolicyKind?> _policy;
    private readonly Option<int?> _keep = OptionFactory.Integer("--keep", 0, int.MaxValue,
        $"Best rows per KV head that are read exactly{Defaults(p => p.Keep, PolicyKind.KCache, PolicyKind.Sketch)}");
    private readonly Option<int?> _keepMax = OptionFactory.Integer("--keep-max", 0, int.MaxValue,
        "With --max-tail or --max-error: the most rows; 0 for all (default: 0)");
    private readonly Option<int?> _sinks = OptionFactory.Integer("--sinks", 0, 64,
        $"First tokens that are always exact (default: {CachePolicy.KCache.Sinks})");
    private readonly Option<int?> _recent = OptionFactory.Integer("--recent", 1, int.MaxValue,
        $"Last tokens that are always exact{Defaults(p => p.Recent, PolicyKind.KCache, PolicyKind.Sketch, PolicyKind.Window)}");
    private readonly Option<int?> _denseLayers = OptionFactory.Integer("--dense-layers", 0, int.MaxValue,
        $"Leading layers that read everything exactly{Defaults(p => p.DenseLayers, PolicyKind.KCache, PolicyKind.Sketch)}");
    private readonly Option<float?> _maxTail = OptionFactory.Share("--max-tail",
        "Read more rows than --keep until the attention weight left out is at most X; 0 is off (default: 0)");
    private readonly Option<float?> _maxError = OptionFactory.Share("--max-error",
        "The same for the root of the sum of the squared weights left out, to which a sketch's error is proportional (default: 0)");
    private readonly Option<MixMode?> _mode = OptionFactory.Choice("--mode", Modes,
        "kcache: divide by the weight of the rows read, or by that of all (default: renormalized)");
    private readonly Option<RowSelection?> _select = OptionFactory.Choice("--select", Selections,
        "The query heads of a KV head choose rows by their summed weights, or each for itself (default: group)");
    private readonly Option<Codec?> _keyCodec = OptionFactory.Choice("--k-codec", AllCodecs,
        "How keys are stored (default: f16; sketch: q4)");
    private readonly Option<Codec?> _valueCodec = OptionFactory.Choice("--v-codec", AllCodecs,
        "How values that are read exactly are stored (default: f16)");
    private readonly Option<Codec?> _valueSketch = OptionFactory.Choice("--v-sketch", SketchCodecs,
        "sketch: how the copy of values in fast memory is stored (default: q2)");

    /// <param name="whenNotGiven">What the command does without --policy; null: it takes the default.</param>
    internal PolicyOptions(string? whenNotGiven = null) => _policy = OptionFactory.Choice("--policy", PolicyWords,
        $"What a decode step reads of the cache (default: {whenNotGiven ?? Word(DefaultPolicy)})");

    internal void AddTo(Command command)
    {
        foreach (var option in All)
            command.Add(option);
    }

    private Option[] All =>
        [_policy, _keep, _keepMax, _sinks, _recent, _denseLayers, _maxTail, _maxError, _mode, _select, _keyCodec, _valueCodec, _valueSketch];

    /// <summary>The first of these options that was given, or null.</summary>
    internal Option? FirstGiven(CommandResult call) => Array.Find(All, option => call.GetResult(option) is not null);

    /// <summary>The policy as asked for. Codecs that it does not offer are left for the cache to refuse, which names them.</summary>
    /// <exception cref="UsageException">An option was given that has no effect under it.</exception>
    internal CachePolicy Read(ParseResult call)
    {
        var kind = call.GetValue(_policy) ?? DefaultPolicy;
        RefuseIdle(call, kind);
        var policy = ReadFor(call, kind);
        policy = policy with
        {
            KeyCodec = call.GetValue(_keyCodec) ?? policy.KeyCodec,
            ValueCodec = call.GetValue(_valueCodec) ?? policy.ValueCodec,
            ValueSketch = call.GetValue(_valueSketch) ?? policy.ValueSketch,
        };
        return Checked(policy);
    }

    /// <summary>The policy named, or null.</summary>
    internal PolicyKind? ReadKind(ParseResult call) => call.GetValue(_policy);

    /// <summary>--keep as given, or null.</summary>
    internal int? ReadKeep(ParseResult call) => call.GetValue(_keep);

    /// <summary>Whether --mode was given.</summary>
    internal bool IsModeGiven(ParseResult call) => call.GetValue(_mode) is not null;

    /// <summary>For a command that goes through several policies: one of them, with those of the options that mean something to it.</summary>
    internal CachePolicy ReadFor(ParseResult call, PolicyKind kind)
    {
        var policy = CachePolicy.For(kind);
        if (kind is PolicyKind.Full)
            return policy with { KeyCodec = call.GetValue(_keyCodec) ?? policy.KeyCodec, ValueCodec = call.GetValue(_valueCodec) ?? policy.ValueCodec };
        policy = policy with { Sinks = call.GetValue(_sinks) ?? policy.Sinks, Recent = call.GetValue(_recent) ?? policy.Recent };
        if (kind is PolicyKind.Window)
            return policy with { KeyCodec = call.GetValue(_keyCodec) ?? policy.KeyCodec, ValueCodec = call.GetValue(_valueCodec) ?? policy.ValueCodec };
        policy = policy with
        {
            Keep = call.GetValue(_keep) ?? policy.Keep,
            KeepMax = call.GetValue(_keepMax) ?? policy.KeepMax,
            DenseLayers = call.GetValue(_denseLayers) ?? policy.DenseLayers,
            MaxTail = call.GetValue(_maxTail) ?? policy.MaxTail,
            MaxError = call.GetValue(_maxError) ?? policy.MaxError,
            Select = call.GetValue(_select) ?? policy.Select,
        };
        Codec keys = call.GetValue(_keyCodec) ?? policy.KeyCodec;
        if (kind is PolicyKind.Sketch)
            return Checked(policy with { KeyCodec = keys, ValueSketch = call.GetValue(_valueSketch) ?? policy.ValueSketch });
        return Checked(policy with
        {
            Mode = call.GetValue(_mode) ?? policy.Mode,
            KeyCodec = keys is Codec.F16 or Codec.Q8 ? keys : policy.KeyCodec,
            ValueCodec = call.GetValue(_valueCodec) ?? policy.ValueCodec,
        });
    }

    /// <summary>A policy's name, as --policy takes it.</summary>
    internal static string Word(PolicyKind kind) => Array.Find(PolicyWords, word => word.Item2 == kind).Item1;

    /// <summary>A codec's name, as --k-codec takes it; the default is named too.</summary>
    internal static string Word(Codec codec) => codec == Codec.Default ? "f16" : Array.Find(AllCodecs, word => word.Item2 == codec).Item1;

    /// <summary>A mode's name, as --mode takes it.</summary>
    internal static string Word(MixMode mode) => Array.Find(Modes, word => word.Item2 == mode).Item1;

    internal static Option<PolicyKind[]?> PolicyList(string name, string description) => OptionFactory.Choices(name, PolicyWords, description);

    internal static Option<Codec[]?> CodecList(string name, string description) => OptionFactory.Choices(name, AllCodecs, description);

    // An option that is not heeded would let its user believe that it had been tried.
    private void RefuseIdle(ParseResult call, PolicyKind kind)
    {
        PolicyKind[] selecting = [PolicyKind.KCache, PolicyKind.Sketch], forgetting = [PolicyKind.Window, .. selecting];
        (Option Option, PolicyKind[] Kinds)[] reach =
        [
            (_keep, selecting), (_keepMax, selecting), (_sinks, forgetting), (_recent, forgetting), (_denseLayers, selecting),
            (_maxTail, selecting), (_maxError, selecting), (_mode, [PolicyKind.KCache]), (_select, selecting),
        ];
        var (idle, kinds) = Array.Find(reach, entry => call.GetResult(entry.Option) is not null && !entry.Kinds.Contains(kind));
        if (idle is not null)
        {
            throw new UsageException($"{idle.Name} has no effect under --policy {Word(kind)}{(call.GetValue(_policy) is null ? ", the default" : "")}; "
                + $"leave it out, or choose --policy {string.Join(" or ", kinds.Select(Word))}.");
        }

        if (call.GetResult(_keepMax) is not null && call.GetResult(_maxTail) is null && call.GetResult(_maxError) is null)
            throw new UsageException("--keep-max has no effect without --max-tail or --max-error; add one, or leave it out.");
    }

    // A bound below the first choice could never be used: better said here, in the words of the options.
    private static CachePolicy Checked(CachePolicy policy) => policy.KeepMax == 0 || policy.KeepMax >= policy.Keep
        ? policy
        : throw new UsageException($"--keep-max {policy.KeepMax} is below --keep {policy.Keep}; give at least {policy.Keep}, or 0 for all.");

    private static string Defaults(Func<CachePolicy, int> value, PolicyKind first, params PolicyKind[] others)
    {
        var parts = others.Where(kind => value(CachePolicy.For(kind)) != value(CachePolicy.For(first)))
            .Select(kind => $"; {Word(kind)}: {value(CachePolicy.For(kind))}");
        return $" (default: {value(CachePolicy.For(first))}{string.Concat(parts)})";
    }
}
