using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using KCacheNative.Benchmarks.Measurement;
using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks.Decode;

/// <summary>`decode`: the decode steps of any model at chosen depths, in the terms in which other runtimes are measured.</summary>
internal static class DecodeCommand
{
    internal const string Name = "decode";

    internal static int Run(string[] args)
    {
        var options = new DecodeOptions();
        var command = new Command(Name, "Times decode steps of a GGUF model (logits computed, nothing sampled) at chosen depths of its cache.");
        options.AddTo(command);
        command.SetAction(call =>
        {
            try
            {
                Measure(options, call);
                return 0;
            }
            catch (Exception exception) when (
                exception is KCacheException or ModelFormatException or IOException or UnauthorizedAccessException or ArgumentException)
            {
                System.Console.Error.WriteLine($"decode: {exception.Message}");
                return 1;
            }
        });
        return new RootCommand { command }.Parse([Name, .. args]).Invoke();
    }

    private static void Measure(DecodeOptions options, ParseResult call)
    {
        var output = System.Console.Out;
        var policy = options.ReadPolicy(call);
        var pace = options.ReadPace(call);
        int[] depths = call.GetValue(options.Depths)!;
        var modelFile = call.GetValue(options.Model)!;
        var textFile = call.GetValue(options.Text);
        // What was forgotten cannot be gone back to, and a text read twice would find its rows hot.
        bool goesBack = policy.Kind != PolicyKind.Window && textFile is null;
        for (int i = 1; !goesBack && i < depths.Length; i++)
        {
            if (depths[i] - depths[i - 1] < pace.Room)
            {
                throw new ArgumentException(
                    $"depths {depths[i - 1]} and {depths[i]} are closer than the {pace.Room} steps between them; choose others, or fewer steps");
            }
        }

        using var file = GgufFile.Open(modelFile.FullName);
        file.ReadAhead();
        int[]? text = textFile is null ? null : Tokenizer.FromGguf(file).EncodePrompt(File.ReadAllText(textFile.FullName));
        if (text is [])
            throw new ArgumentException($"{textFile!.FullName} holds no text");
        using var context = new ComputeContext(options.ReadContext(call));
        var cacheOptions = options.ReadCache(call, depths[^1] + pace.Room);
        using var session = new DecodeSession(context, file, policy, cacheOptions, text);
        double readBound = BandwidthProbe.Measure(context.Info.Threads);

        var info = context.Info;
        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{modelFile.Name}, {Word(policy.Kind)}, {info.Threads} threads, {info.InstructionSet}; read bandwidth {readBound / 1e9:0.0} GB/s"));
        output.WriteLine(DecodeTable.Header);
        foreach (int depth in depths)
        {
            var figures = DecodeMeasurement.Run(session, depth, pace, goesBack);
            output.WriteLine(DecodeTable.Line(figures, cacheOptions.Sequences, readBound));
            if (call.GetValue(options.Json) is { } json)
            {
                var result = Describe(figures, session.Cache, info, pace, readBound) with
                {
                    Label = call.GetValue(options.Label)!,
                    Model = modelFile.Name,
                    Fill = textFile is null ? "rows" : "text",
                };
                File.AppendAllText(json.FullName, JsonSerializer.Serialize(result, DecodeJson.Default.DecodeResult) + "\n");
            }
        }

        output.WriteLine(DecodeTable.Legend);
    }

    private static DecodeResult Describe(DecodeFigures figures, KvCache cache, ContextInfo info, DecodePace pace, double readBound)
    {
        var (policy, options, statistics) = (cache.Policy, cache.Options, figures.Statistics);
        static double Round(double value) => Math.Round(value, 4);
        double steps = figures.StepSeconds.Length;
        return new DecodeResult
        {
            Utc = DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ssZ", CultureInfo.InvariantCulture),
            Label = "",
            Version = ComputeContext.NativeVersion,
            Machine = $"{info.Device}, {Environment.ProcessorCount} cores, {RuntimeInformation.OSDescription}",
            Runtime = RuntimeInformation.FrameworkDescription,
            Isa = info.InstructionSet,
            Model = "",
            Depth = figures.Depth,
            Batch = options.Sequences,
            Threads = info.Threads,
            Policy = Word(policy.Kind),
            KCodec = Word(policy.KeyCodec),
            VCodec = Word(policy.ValueCodec),
            VSketch = Word(policy.ValueSketch),
            Keep = policy.Keep,
            Sinks = policy.Sinks,
            Recent = policy.Recent,
            DenseLayers = policy.DenseLayers,
            MaxTail = policy.MaxTail,
            MaxError = policy.MaxError,
            Activations = Word(info.Activations),
            FastBudget = options.FastBudgetBytes,
            Fill = "",
            FillS = Round(figures.FillSeconds),
            Steps = pace.Steps,
            Reps = pace.Repetitions,
            MeanDepth = figures.MeanDepth,
            TokS = Round(figures.TokensPerSecond[pace.Repetitions / 2]),
            TokSMin = Round(figures.TokensPerSecond[0]),
            TokSMax = Round(figures.TokensPerSecond[^1]),
            TokSCpu = Round(figures.TokensPerCpuSecond[pace.Repetitions / 2]),
            StepMsMedian = Round(figures.MedianStep * 1e3),
            StepMsMin = Round(figures.BestStep * 1e3),
            ForeignCpu = figures.OthersShare is { } share ? Round(share) : null,
            ReadW = figures.WeightBytes,
            ReadCache = Math.Round(figures.CacheBytes),
            GbS = Round(figures.BytesPerSecond / 1e9),
            ReadGbS = Round(readBound / 1e9),
            PercentOfRead = Round(100 * figures.BytesPerSecond / readBound),
            RowsSelected = Round(statistics.RowsSelected / steps),
            RowsHot = Round(statistics.RowsHot / steps),
            RowsRestored = Round(statistics.RowsRestored / steps),
            HitRate = figures.HitRate is { } rate ? Round(rate) : null,
            TailMean = statistics.TailMean,
            TailMax = statistics.TailMax,
            CacheFastBytes = figures.Memory.FastBytes,
            CacheSlowBytes = figures.Memory.SlowBytes,
            Rss = Environment.WorkingSet,
        };
    }

    private static string Word<T>(T value)
        where T : struct, Enum => value.ToString().ToLowerInvariant();
}
