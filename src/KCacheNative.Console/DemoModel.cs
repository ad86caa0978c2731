using System.Reflection;
using System.Text.Json;
using KCacheNative.Console.Output;
using KCacheNative.Formats;

namespace KCacheNative.Console;

/// <summary>The demonstration model and its archives, which travel inside the program.</summary>
internal static class DemoModel
{
    /// <summary>The archives, from short to long.</summary>
    internal static readonly string[] ArchiveNames = ["archive-1k", "archive-4k", "archive-8k"];

    /// <summary>Opens the embedded model.</summary>
    internal static GgufFile Open()
    {
        using var stream = OpenResource("archivist-q8_0.gguf");
        return GgufFile.FromStream(stream, Options.ModelArgument.Demo);
    }

    /// <summary>An archive with its questions.</summary>
    /// <param name="name">One of <see cref="ArchiveNames"/>.</param>
    internal static Archive ReadArchive(string name)
    {
        using var text = new StreamReader(OpenResource(name + ".txt"));
        using var questions = OpenResource(name + ".json");
        var set = JsonSerializer.Deserialize(questions, ConsoleJson.Default.ArchiveQuestions)
            ?? throw new InvalidDataException($"the embedded {name}.json is empty");
        return new Archive(name, text.ReadToEnd(), set);
    }

    private static Stream OpenResource(string name) =>
        Assembly.GetExecutingAssembly().GetManifestResourceStream("demo/" + name)
        ?? throw new InvalidDataException($"this build of the program lacks the embedded file {name}; build it again from a whole source tree.");
}

/// <summary>A text with questions about it.</summary>
/// <param name="Name">Such as "archive-8k".</param>
/// <param name="Text">The whole text.</param>
/// <param name="Set">The questions.</param>
internal sealed record Archive(string Name, string Text, ArchiveQuestions Set)
{
    /// <summary>The prompt up to where a question stands, and from behind it to where the answer begins.</summary>
    internal (string Before, string After) PromptParts()
    {
        string[] parts = Set.Prompt.Replace("{archive}", Text).Split("{question}");
        return (parts[0], parts[1]);
    }
}

/// <summary>The questions of an archive, as its JSON file holds them.</summary>
/// <param name="Prompt">The prompt's form, with {archive} and {question} in it.</param>
/// <param name="Tokens">Tokens of the archive.</param>
/// <param name="Questions">The questions.</param>
internal sealed record ArchiveQuestions(string Prompt, int Tokens, ArchiveQuestion[] Questions);

/// <summary>A question.</summary>
/// <param name="Question">As it is asked.</param>
/// <param name="Answer">The right answer, a whole sentence.</param>
internal sealed record ArchiveQuestion(string Question, string Answer)
{
    /// <summary>Whether the answer stands in no single sentence of the archive but must be counted over all of it.</summary>
    internal bool IsAggregation => Question.StartsWith("Which bird", StringComparison.Ordinal);
}
