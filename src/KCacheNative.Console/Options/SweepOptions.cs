using System.CommandLine;
using System.CommandLine.Parsing;
using KCacheNative.Console.Evaluation;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Options;

/// <summary>What `eval --sweep` goes through, and where it writes.</summary>
internal sealed class SweepOptions
{
    private static readonly int[] DefaultKeeps = [16, 32, 64, 128, 256];
    private static readonly PolicyKind[] DefaultPolicies = [PolicyKind.Full, PolicyKind.KCache, PolicyKind.Sketch];
    private static readonly Codec[] DefaultCodecs = [Codec.Q8, Codec.Q4, Codec.Q3, Codec.Q2];

    private readonly Option<bool> _sweep = OptionFactory.Flag("--sweep",
        "Go through policies, codecs and N; write a table (Markdown, JSON) and a plot (SVG) of error against fast memory");
    private readonly Option<PolicyKind[]?> _policies = PolicyOptions.PolicyList("--sweep-policies",
        "Policies to go through (default: full,kcache,sketch, as far as they are offered)");
    private readonly Option<int[]?> _keeps = OptionFactory.Integers("--sweep-keep", 0,
        $"N to go through (default: {string.Join(',', DefaultKeeps)})");
    private readonly Option<Codec[]?> _codecs = PolicyOptions.CodecList("--sweep-codecs",
        "Codecs of keys to go through; full stores values in the same (default: full and sketch q8,q4,q3,q2; kcache f16)");
    private readonly Option<string?> _output = OptionFactory.Text("--output", "PATH",
        "Where --sweep writes PATH.md, PATH.json and PATH.svg (default: sweep)", "-o");

    internal void AddTo(Command command)
    {
        foreach (Option option in new Option[] { _sweep, _policies, _keeps, _codecs, _output })
            command.Add(option);
        command.Validators.Add(result =>
        {
            var orphan = new Option[] { _policies, _keeps, _codecs, _output }.FirstOrDefault(option => result.GetResult(option) is not null);
            if (orphan is not null && !IsGiven(result))
                result.AddError($"{orphan.Name} belongs to --sweep; add --sweep, or leave it out.");
        });
    }

    internal bool IsGiven(ParseResult call) => call.GetValue(_sweep);

    internal bool IsGiven(CommandResult call) => call.GetValue(_sweep);

    /// <summary>The files without their endings.</summary>
    internal string ReadOutput(ParseResult call) => call.GetValue(_output) ?? "sweep";

    /// <summary>The lines of the sweep: settings that differ in N, or in the codec of a cache without exact rows.</summary>
    internal IReadOnlyList<SweepSeries> Read(ParseResult call)
    {
        int[] keeps = call.GetList(_keeps) ?? DefaultKeeps;
        Codec[]? codecs = call.GetList(_codecs);
        return [.. (call.GetList(_policies) ?? DefaultPolicies).Distinct().SelectMany(kind => Series(kind, keeps, codecs))];
    }

    private static IEnumerable<SweepSeries> Series(PolicyKind kind, int[] keeps, Codec[]? codecs)
    {
        switch (kind)
        {
            case PolicyKind.Full:
                yield return new SweepSeries("full, all rows at low bits", [.. (codecs ?? DefaultCodecs)
                    .Select(codec => new SweepSetting(PolicyOptions.Word(codec), CachePolicy.Full with { KeyCodec = codec, ValueCodec = codec }))]);
                break;
            case PolicyKind.Window:
                yield return new SweepSeries("window", [.. keeps
                    .Select(keep => new SweepSetting($"{keep}", CachePolicy.Window with { Recent = Math.Max(keep, 1) }))]);
                break;
            case PolicyKind.KCache:
                foreach (var codec in codecs?.Where(codec => codec is Codec.F16 or Codec.Q8) ?? [Codec.F16])
                {
                    foreach (var mode in new[] { MixMode.Renormalized, MixMode.ExactWeights })
                        yield return Rows($"kcache K {PolicyOptions.Word(codec)} {PolicyOptions.Word(mode)}", CachePolicy.KCache with { KeyCodec = codec, Mode = mode }, keeps);
                }

                break;
            default:
                foreach (var codec in codecs ?? DefaultCodecs)
                    yield return Rows($"sketch K {PolicyOptions.Word(codec)} V q2", CachePolicy.Sketch with { KeyCodec = codec, ValueSketch = Codec.Q2 }, keeps);
                break;
        }
    }

    private static SweepSeries Rows(string name, CachePolicy policy, int[] keeps) =>
        new(name, [.. keeps.Select(keep => new SweepSetting($"{keep}", policy with { Keep = keep }))]);
}
