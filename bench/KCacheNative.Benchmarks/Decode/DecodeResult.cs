using System.Text.Json.Serialization;

namespace KCacheNative.Benchmarks.Decode;

/// <summary>
/// One line of a results file. Names that the measurement of llama.cpp has too mean the same there: tok_s, step_ms_median, step_ms_min,
/// foreign_cpu, read_w. Times in milliseconds where the name says ms, else in seconds; sizes in bytes.
/// </summary>
internal sealed record DecodeResult
{
    public required string Utc { get; init; }
    public required string Label { get; init; }
    public required string Version { get; init; }
    public required string Machine { get; init; }
    public required string Runtime { get; init; }
    public required string Isa { get; init; }
    public required string Model { get; init; }
    public string What => "decode";
    public required int Depth { get; init; }
    public required int Batch { get; init; }
    public required int Threads { get; init; }
    public required string Policy { get; init; }
    public required string KCodec { get; init; }
    public required string VCodec { get; init; }
    public required string VSketch { get; init; }
    public required int Keep { get; init; }
    public required int Sinks { get; init; }
    public required int Recent { get; init; }
    public required int DenseLayers { get; init; }
    public required double MaxTail { get; init; }
    public required double MaxError { get; init; }
    public required string Activations { get; init; }
    public required long FastBudget { get; init; }
    public required string Fill { get; init; }
    public required double FillS { get; init; }
    public required int Steps { get; init; }
    public required int Reps { get; init; }
    public required double MeanDepth { get; init; }
    public required double TokS { get; init; }
    public required double TokSMin { get; init; }
    public required double TokSMax { get; init; }
    public required double TokSCpu { get; init; }
    public required double StepMsMedian { get; init; }
    public required double StepMsMin { get; init; }
    public required double? ForeignCpu { get; init; }
    public required long ReadW { get; init; }
    public required double ReadCache { get; init; }
    public required double GbS { get; init; }
    public required double ReadGbS { get; init; }
    public required double PercentOfRead { get; init; }
    public required double RowsSelected { get; init; }
    public required double RowsHot { get; init; }
    public required double RowsRestored { get; init; }
    public required double? HitRate { get; init; }
    public required double TailMean { get; init; }
    public required double TailMax { get; init; }
    public required long CacheFastBytes { get; init; }
    public required long CacheSlowBytes { get; init; }
    public required long Rss { get; init; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(DecodeResult))]
internal sealed partial class DecodeJson : JsonSerializerContext;
