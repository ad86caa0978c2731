using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace KCacheNative.Console.Output;

/// <summary>All that is read or written as JSON; the code for it is generated, so that ahead-of-time compilation works.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(long[]))]
[JsonSerializable(typeof(string))]
[JsonSerializable(typeof(ArchiveQuestions))]
[JsonSerializable(typeof(TokenizeReport))]
[JsonSerializable(typeof(RunReport))]
[JsonSerializable(typeof(CompareReport))]
[JsonSerializable(typeof(PlanReport))]
[JsonSerializable(typeof(EvalReport))]
[JsonSerializable(typeof(QuestionsReport))]
[JsonSerializable(typeof(SweepReport))]
[JsonSerializable(typeof(InspectReport))]
[JsonSerializable(typeof(DevicesReport))]
[JsonSerializable(typeof(MessageItem[]))]
internal sealed partial class ConsoleJson : JsonSerializerContext
{
    private static readonly Lazy<ConsoleJson> ReadableInstance = new(() =>
        new ConsoleJson(new JsonSerializerOptions(Default!.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }));

    /// <summary>For output: characters beyond ASCII as they are.</summary>
    internal static ConsoleJson Readable => ReadableInstance.Value;

    /// <summary>Writes a report as one line of JSON.</summary>
    internal static void Write<T>(TextWriter output, T report)
        where T : class =>
        output.WriteLine(JsonSerializer.Serialize(report, typeof(T), Readable));
}
