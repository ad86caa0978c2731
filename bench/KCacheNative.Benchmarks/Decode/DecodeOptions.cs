using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks.Decode;

/// <summary>The options of `decode`; those that the console has too are named and mean as there.</summary>
internal sealed class DecodeOptions
{
    private static readonly (string Unit, long Bytes)[] Units = [("", 1), ("kib", 1L << 10), ("mib", 1L << 20), ("gib", 1L << 30)];

    private readonly Option<PolicyKind> _policy = new("--policy")
    {
        HelpName = "full|window|kcache|sketch",
        Description = "What a step reads of the cache (default: full)",
    };
    private readonly Option<int?> _keep = Integer("--keep", 0, "Best rows per KV head that are read exactly");
    private readonly Option<int?> _sinks = Integer("--sinks", 0, "First tokens that are always exact");
    private readonly Option<int?> _recent = Integer("--recent", 1, "Last tokens that are always exact");
    private readonly Option<int?> _denseLayers = Integer("--dense-layers", 0, "Leading layers that read everything exactly");
    private readonly Option<float?> _maxTail = new("--max-tail")
    {
        HelpName = "X",
        Description = "Read more rows until the weight left out is at most X",
    };
    private readonly Option<float?> _maxError = new("--max-error")
    {
        HelpName = "X",
        Description = "The same for the root of the sum of squared weights",
    };
    private readonly Option<RowSelection?> _select = new("--select")
    {
        HelpName = "group|union",
        Description = "How the query heads of a KV head agree on rows",
    };
    private readonly Option<Codec?> _keyCodec = CodecOption("--k-codec", "Of keys");
    private readonly Option<Codec?> _valueCodec = CodecOption("--v-codec", "Of values that are read exactly");
    private readonly Option<Codec?> _valueSketch = CodecOption("--v-sketch", "Of the copy of values under sketch");
    private readonly Option<long> _fastBudget = new("--fast-budget")
    {
        HelpName = "SIZE",
        Description = "Most fast memory for the cache, such as 64MiB; what does not fit is spilled (default: no limit)",
        CustomParser = Size,
    };
    private readonly Option<string?> _spillDirectory = new("--spill-dir")
    {
        HelpName = "DIR",
        Description = "Directory of the spill file, on a disk",
    };
    private readonly Option<int> _threads = Count("--threads", 0, 0, "Threads (default: one per core)");
    private readonly Option<Activations> _activations = new("--activations")
    {
        HelpName = "q8|f32",
        Description = "Inputs of matrix products (default: q8)",
    };
    private readonly Option<int> _batch = Count("--batch", 1, 1, "Sequences decoded together, each at the depth");
    private readonly Option<int> _steps = Count("--steps", 1, 32, "Steps of a repetition");
    private readonly Option<int> _repetitions = Count("--reps", 1, 3, "Repetitions");
    private readonly Option<int> _warmUp = Count("--warm-up", 0, 4, "Steps that are left out at each depth");

    internal Option<FileInfo> Model { get; } = new("--model") { HelpName = "FILE.gguf", Description = "The model", Required = true };

    internal Option<int[]> Depths { get; } = new("--depths")
    {
        HelpName = "N,N,...",
        Description = "Tokens in the cache before the first step, ascending",
        CustomParser = Numbers,
        DefaultValueFactory = _ => [0, 2048, 8192],
    };

    internal Option<FileInfo?> Text { get; } = new("--text")
    {
        HelpName = "FILE",
        Description = "Reach the depths by this text, repeated, and go on with it: slow, but rows are chosen as in earnest (default: random rows)",
    };

    internal Option<FileInfo?> Json { get; } = new("--json") { HelpName = "FILE", Description = "Append a line for each depth to this file" };

    internal Option<string> Label { get; } = new("--label")
    {
        HelpName = "TEXT",
        Description = "Copied into each line",
        DefaultValueFactory = _ => "",
    };

    internal void AddTo(Command command)
    {
        Option[] all =
        [
            Model, Depths, _threads, _policy, _keep, _sinks, _recent, _denseLayers, _maxTail, _maxError, _select,
            _keyCodec, _valueCodec, _valueSketch, _fastBudget, _spillDirectory, _activations, _batch, Text, _steps, _repetitions, _warmUp, Json, Label,
        ];
        foreach (var option in all)
            command.Add(option);
    }

    internal CachePolicy ReadPolicy(ParseResult call)
    {
        var policy = CachePolicy.For(call.GetValue(_policy));
        return policy with
        {
            Keep = call.GetValue(_keep) ?? policy.Keep,
            Sinks = call.GetValue(_sinks) ?? policy.Sinks,
            Recent = call.GetValue(_recent) ?? policy.Recent,
            DenseLayers = call.GetValue(_denseLayers) ?? policy.DenseLayers,
            MaxTail = call.GetValue(_maxTail) ?? policy.MaxTail,
            MaxError = call.GetValue(_maxError) ?? policy.MaxError,
            Select = call.GetValue(_select) ?? policy.Select,
            KeyCodec = call.GetValue(_keyCodec) ?? policy.KeyCodec,
            ValueCodec = call.GetValue(_valueCodec) ?? policy.ValueCodec,
            ValueSketch = call.GetValue(_valueSketch) ?? policy.ValueSketch,
        };
    }

    internal ContextOptions ReadContext(ParseResult call) =>
        new() { Threads = call.GetValue(_threads), Activations = call.GetValue(_activations) };

    internal DecodePace ReadPace(ParseResult call) => new(call.GetValue(_steps), call.GetValue(_repetitions), call.GetValue(_warmUp));

    /// <param name="call">The call.</param>
    /// <param name="context">Tokens of a sequence.</param>
    internal CacheOptions ReadCache(ParseResult call, int context)
    {
        int batch = call.GetValue(_batch);
        return new CacheOptions
        {
            Context = context,
            Sequences = batch,
            BatchTokens = Math.Max(Math.Min(CacheOptions.DefaultBatchTokens, context), batch),
            FastBudgetBytes = call.GetValue(_fastBudget),
            SpillDirectory = call.GetValue(_spillDirectory),
        };
    }

    private static Option<int?> Integer(string name, int least, string description)
    {
        var option = new Option<int?>(name) { HelpName = "N", Description = description + " (default: the policy's)" };
        option.Validators.Add(result => AtLeast(result, name, least));
        return option;
    }

    private static Option<int> Count(string name, int least, int fallback, string description)
    {
        var option = new Option<int>(name) { HelpName = "N", Description = description, DefaultValueFactory = _ => fallback };
        option.Validators.Add(result => AtLeast(result, name, least));
        return option;
    }

    private static Option<Codec?> CodecOption(string name, string description) =>
        new(name) { HelpName = "f16|q8|q4|q3|q2", Description = description + " (default: the policy's)" };

    private static void AtLeast(OptionResult result, string name, int least)
    {
        if (result.Tokens is [var token] && int.TryParse(token.Value, out int value) && value < least)
            result.AddError($"{name} takes a whole number from {least} up, not {value}.");
    }

    private static int[] Numbers(ArgumentResult result)
    {
        string text = result.Tokens[0].Value;
        string[] parts = text.Split(',');
        int[] numbers = new int[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            if (int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out numbers[i])
                && (i == 0 || numbers[i] > numbers[i - 1]))
                continue;
            result.AddError($"--depths takes whole numbers that ascend, with commas between them, such as 0,2048, not '{text}'.");
            return [];
        }

        return numbers;
    }

    private static long Size(ArgumentResult result)
    {
        string text = result.Tokens[0].Value.Trim();
        int split = text.AsSpan().LastIndexOfAnyInRange('0', '9') + 1;
        foreach (var (unit, bytes) in Units)
        {
            if (unit == text[split..].Trim().ToLowerInvariant()
                && decimal.TryParse(text[..split], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal number)
                && number > 0 && number <= long.MaxValue / bytes)
                return (long)(number * bytes);
        }

        result.AddError($"--fast-budget takes a size such as 64MiB, 2GiB or 1000000, not '{text}'.");
        return 0;
    }
}
