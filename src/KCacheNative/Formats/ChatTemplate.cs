using System.Text.RegularExpressions;

namespace KCacheNative.Formats;

/// <summary>
/// How a model wants conversations written. Supported is ChatML, recognised by the content of the file's own template, with the
/// system message that the template adds where a conversation begins without one.
/// </summary>
public sealed partial class ChatTemplate
{
    /// <summary>The control token that ends a turn.</summary>
    internal const string TurnEnd = "<|im_end|>";

    private const string TemplateKey = "tokenizer.chat_template";
    private const string TurnStart = "<|im_start|>";
    private const string Supported =
        "supported is ChatML without tools (<|im_start|>role, content, <|im_end|>): use such a model, or give a plain prompt";

    private ChatTemplate(string? defaultSystemMessage) => DefaultSystemMessage = defaultSystemMessage;

    /// <summary>The system message of conversations that begin without one; null if the template adds none.</summary>
    public string? DefaultSystemMessage { get; }

    /// <summary>Whether a file has a template at all.</summary>
    public static bool IsPresent(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return file.Metadata.ContainsKey(TemplateKey);
    }

    /// <summary>Recognises the template of a file.</summary>
    /// <exception cref="ModelFormatException">The file has no template, or one that is not supported.</exception>
    public static ChatTemplate FromGguf(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var metadata = file.Metadata;
        if (!metadata.ContainsKey(TemplateKey))
            throw metadata.Invalid(TemplateKey, "the model has no chat template", "use a model trained for chats, or give a plain prompt");
        string template = metadata.GetString(TemplateKey);
        var match = ChatMl().Match(template);
        if (!match.Success)
        {
            string beginning = template[..Math.Min(60, template.Length)];
            throw metadata.Invalid(TemplateKey, $"the chat template is not supported: '{beginning}…'", Supported);
        }


        var system = match.Groups["system"];
        return new ChatTemplate(system.Success ? Unescape(system.Value) : null);
    }

    /// <summary>Writes a conversation from its beginning.</summary>
    /// <param name="messages">The messages, at least one.</param>
    /// <param name="addGenerationPrompt">Whether the beginning of the assistant's next turn follows.</param>
    /// <exception cref="ArgumentException">There is no message, or a role is no name.</exception>
    public ChatRendering Render(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt = true)
    {
        ArgumentNullException.ThrowIfNull(messages);
        if (messages.Count == 0)
            throw new ArgumentException("A conversation needs at least one message.", nameof(messages));
        var rendering = new ChatRendering();
        if (DefaultSystemMessage is not null && messages[0].Role != "system")
            AddTurn(rendering, new ChatMessage("system", DefaultSystemMessage));
        return AddTurns(rendering, messages, addGenerationPrompt);
    }

    /// <summary>
    /// Writes what follows an assistant's turn whose end token has been generated: the rest of that turn, further messages, and the
    /// beginning of the assistant's next turn. So a chat runs only its new turn.
    /// </summary>
    /// <param name="messages">The messages since, at least one.</param>
    /// <exception cref="ArgumentException">There is no message, or a role is no name.</exception>
    public ChatRendering RenderContinuation(IReadOnlyList<ChatMessage> messages)
    {
        ArgumentNullException.ThrowIfNull(messages);
        if (messages.Count == 0)
            throw new ArgumentException("A continuation needs at least one message.", nameof(messages));
        return AddTurns(new ChatRendering().Plain("\n"), messages, addGenerationPrompt: true);
    }

    private static ChatRendering AddTurns(ChatRendering rendering, IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt)
    {
        foreach (var message in messages)
            AddTurn(rendering, message);
        return addGenerationPrompt ? rendering.Control(TurnStart).Plain("assistant\n") : rendering;
    }

    private static void AddTurn(ChatRendering rendering, ChatMessage message)
    {
        if (!RoleName().IsMatch(message.Role))
            throw new ArgumentException($"The role '{message.Role}' is no name; use system, user or assistant.", nameof(message));
        rendering.Control(TurnStart).Plain($"{message.Role}\n{message.Content}").Control(TurnEnd).Plain("\n");
    }

    private static string Unescape(string literal) => literal.Replace("\\n", "\n").Replace("\\'", "'");

    [GeneratedRegex(@"\A[A-Za-z0-9_-]{1,64}\z")]
    private static partial Regex RoleName();

    // ChatML in the template language: an optional default for add_generation_prompt, a loop over the messages with an optional default
    // system message, a turn per message, the generation prompt. Blanks are allowed only where the language removes them (trim_blocks,
    // lstrip_blocks and '-'), since all others would be part of the text. No repetition is followed by another of the same characters:
    // matching takes linear time.
    private const string BlockThenBlock = @"(-%\}\s*\{%-?|%\}\s*\{%-|%\}(\n[\ \t]*)?\{%)\s*";
    private const string BlockThenOutput = @"(-%\}\s*\{\{-?|%\}\s*\{\{-|%\}\n?\{\{)\s*";
    private const string OutputThenBlock = @"\s*(-\}\}\s*\{%-?|\}\}\s*\{%-|\}\}\{%)\s*";
    private const string LineEnd = @"(\n|\\n)";

    private const string Flag =
        @"(\{%-?\s*if\ not\ add_generation_prompt\ is\ defined\s*" + BlockThenBlock + @"set\ add_generation_prompt\s*=\s*false\s*"
        + BlockThenBlock + @"endif\s*" + BlockThenBlock + @"|\{%-?\s*)";

    private const string SystemMessage =
        "(" + BlockThenBlock + @"if\ loop\.first\ and\ messages\[0\]\['role'\]\ !=\ 'system'\s*" + BlockThenOutput
        + @"'<\|im_start\|>system" + LineEnd + @"(?<system>([^'\\]|\\n|\\')*?)<\|im_end\|>" + LineEnd + "'"
        + OutputThenBlock + @"endif\s*)?";

    private const string Turn =
        BlockThenOutput + @"'<\|im_start\|>'\s*\+\s*message(\['role'\]|\.role)\s*\+\s*'" + LineEnd
        + @"'\s*\+\s*message(\['content'\]|\.content)\s*\+\s*'<\|im_end\|>('\s*\+\s*')?" + LineEnd + "'";

    private const string GenerationPrompt =
        OutputThenBlock + @"endfor\s*" + BlockThenBlock + @"if\ add_generation_prompt\s*" + BlockThenOutput
        + @"'<\|im_start\|>assistant" + LineEnd + "'" + OutputThenBlock + @"endif\s*(-%\}\s*|%\}\n?)\z";

    [GeneratedRegex(
        @"\A" + Flag + @"for\ message\ in\ messages\s*" + SystemMessage + Turn + GenerationPrompt,
        RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant)]
    private static partial Regex ChatMl();
}
