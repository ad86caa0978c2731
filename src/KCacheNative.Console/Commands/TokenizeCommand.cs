using System.CommandLine;
using System.Text.Json;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Formats;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache tokenize`: text or a chat as token ids.</summary>
internal static class TokenizeCommand
{
    internal static Command Create(Terminal terminal)
    {
        var model = ModelArgument.Required();
        var text = OptionFactory.Text("--prompt", "TEXT", "The text", "-p");
        var file = OptionFactory.Text("--file", "FILE", "A UTF-8 text file; - reads the standard input", "-f");
        var messages = OptionFactory.Text("--messages", "FILE",
            """A chat as JSON, rendered with the model's template and the beginning of the answer: [{"role": "user", "content": "..."}]""");
        var special = OptionFactory.Flag("--special", "Special tokens spelled out in the text become those tokens (default: plain text)");
        var json = OptionFactory.Flag("--json", "Print JSON alone");
        var command = new Command("tokenize", "Turn text, or a chat, into token ids") { model, text, file, messages, special, json };
        command.Validators.Add(result =>
        {
            if (new Option[] { text, file, messages }.Count(option => result.GetResult(option) is not null) != 1)
                result.AddError("tokenize needs one text: -p TEXT, -f FILE or --messages FILE.");
        });
        command.SetAction(call =>
        {
            using var gguf = ModelSource.Open(call.GetRequiredValue(model));
            var tokenizer = Tokenizer.FromGguf(gguf);
            TokenizeReport report;
            if (call.GetValue(messages) is { } chat)
            {
                var rendering = ChatTemplate.FromGguf(gguf).Render(ReadMessages(chat));
                report = new TokenizeReport(rendering.EncodePrompt(tokenizer), rendering.Text);
            }
            else
            {
                string content = call.GetValue(text) ?? PromptOptions.ReadText(call.GetValue(file)!, terminal);
                report = new TokenizeReport(tokenizer.EncodePrompt(content, call.GetValue(special)), null);
            }

            if (call.GetValue(json))
                ConsoleJson.Write(terminal.Out, report);
            else
                Show(terminal.Out, report, tokenizer);
            return ExitCode.Success;
        });
        return command;
    }

    /// <summary>Reads a chat.</summary>
    /// <exception cref="UsageException">The file holds none.</exception>
    internal static ChatMessage[] ReadMessages(string path)
    {
        const string form = """[{"role": "user", "content": "..."}]""";
        MessageItem[]? items;
        try
        {
            items = JsonSerializer.Deserialize(InputFile.ReadBytes(path), ConsoleJson.Default.MessageItemArray);
        }
        catch (JsonException e)
        {
            throw new UsageException($"'{path}' is no list of messages such as {form}: {e.Message}");
        }

        if (items is not { Length: > 0 } || items.Any(item => item?.Role is null || item.Content is null))
            throw new UsageException($"'{path}' must be a list of at least one message, each with role and content: {form}.");
        return Array.ConvertAll(items, item => new ChatMessage(item.Role!, item.Content!));
    }

    private static void Show(TextWriter output, TokenizeReport report, Tokenizer tokenizer)
    {
        if (report.Text is not null)
            output.WriteLine(report.Text);
        foreach (int id in report.Ids)
            output.WriteLine($"{id,8}  {Quote(tokenizer, id)}");
        output.WriteLine($"{report.Ids.Length} tokens");
    }

    // A token may be a part of a character: then its bytes say more than a replacement character.
    private static string Quote(Tokenizer tokenizer, int id)
    {
        var bytes = tokenizer.TokenBytes(id);
        string text = System.Text.Encoding.UTF8.GetString(bytes);
        return text.Contains('\uFFFD') ? $"bytes {Convert.ToHexString(bytes)}" : JsonSerializer.Serialize(text, ConsoleJson.Readable.String);
    }
}
