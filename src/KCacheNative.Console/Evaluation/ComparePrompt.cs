using KCacheNative.Engine;
using KCacheNative.Formats;

namespace KCacheNative.Console.Evaluation;

/// <summary>What `compare` generates from.</summary>
/// <param name="Ids">The prompt.</param>
/// <param name="Question">The question at its end, if one is asked.</param>
/// <param name="Expected">The right answer, where it is known.</param>
/// <param name="StopStrings">Where the answer ends.</param>
internal sealed record ComparePrompt(int[] Ids, string? Question, string? Expected, IReadOnlyList<string> StopStrings)
{
    private const string EmbeddedArchive = "archive-8k";

    /// <summary>Makes the prompt.</summary>
    /// <param name="model">The model.</param>
    /// <param name="text">A text; null: the embedded archive.</param>
    /// <param name="question">A question; null: the embedded archive's first, or none.</param>
    internal static ComparePrompt Create(LanguageModel model, string? text, string? question)
    {
        if (text is null)
            return OfArchive(model, question);
        if (text.Length == 0)
            throw new UsageException("the text is empty; give one of at least one token.");
        if (question is null)
            return new ComparePrompt(model.Tokenizer.EncodePrompt(text), null, null, []);
        if (!ChatTemplate.IsPresent(model.File))
            return new ComparePrompt(model.Tokenizer.EncodePrompt($"{text.TrimEnd()}\n\nQuestion: {question}\nAnswer:"), question, null, ["\n"]);
        var chat = ChatTemplate.FromGguf(model.File).Render([new ChatMessage("user", $"{text.TrimEnd()}\n\n{question}")]);
        return new ComparePrompt(chat.EncodePrompt(model.Tokenizer), question, null, []);
    }

    private static ComparePrompt OfArchive(LanguageModel model, string? question)
    {
        var archive = DemoModel.ReadArchive(EmbeddedArchive);
        var known = question is null ? archive.Set.Questions[0] : Array.Find(archive.Set.Questions, q => q.Question == question);
        var (before, after) = archive.PromptParts();
        string asked = question ?? known!.Question;
        return new ComparePrompt(model.Tokenizer.EncodePrompt(before + asked + after), asked, known?.Answer.Trim(), ["\n"]);
    }
}
