using System.CommandLine;
using System.Text.Json;
using KCacheNative.Console.Output;
using KCacheNative.Formats;

namespace KCacheNative.Console.Options;

/// <summary>Where a prompt comes from: -p TEXT, -f FILE or --ids FILE.</summary>
internal sealed class PromptOptions
{
    private readonly Option<string?> _text = OptionFactory.Text("--prompt", "TEXT", "The prompt", "-p");
    private readonly Option<string?> _file = OptionFactory.Text("--file", "FILE", "A UTF-8 text file that holds the prompt; - reads the standard input", "-f");
    private readonly Option<string?> _ids = OptionFactory.Text("--ids", "FILE", "A JSON file with the prompt as a list of token ids: [1, 42, 7]");
    private readonly Option<bool> _special = OptionFactory.Flag("--special", "Special tokens spelled out in the prompt become those tokens (default: plain text)");

    internal void AddTo(Command command)
    {
        command.Add(_text);
        command.Add(_file);
        command.Add(_ids);
        command.Add(_special);
        command.Validators.Add(result =>
        {
            int given = new Option[] { _text, _file, _ids }.Count(option => result.GetResult(option) is not null);
            if (given != 1)
                result.AddError($"{command.Name} needs one prompt, {(given == 0 ? "and none was given" : $"not {given}")}: -p TEXT, -f FILE or --ids FILE.");
        });
    }

    /// <summary>Reads what the call names, before a model is loaded.</summary>
    /// <returns>Makes token ids of it.</returns>
    internal Func<Tokenizer, int[]> Read(ParseResult call, Terminal terminal)
    {
        if (call.GetValue(_ids) is { } idsFile)
        {
            long[] ids = ReadIds(idsFile);
            return tokenizer => Checked(ids, idsFile, tokenizer);
        }

        string text = call.GetValue(_text) ?? ReadText(call.GetValue(_file)!, terminal);
        bool special = call.GetValue(_special);
        return tokenizer => tokenizer.EncodePrompt(text, special) is { Length: > 0 } ids
            ? ids
            : throw new UsageException("the prompt is empty; give at least one token.");
    }

    /// <summary>A text file as a whole, or the standard input for "-".</summary>
    internal static string ReadText(string path, Terminal terminal) => path == "-" ? terminal.In.ReadToEnd() : InputFile.ReadText(path);

    private static long[] ReadIds(string path)
    {
        long[]? ids;
        try
        {
            ids = JsonSerializer.Deserialize(InputFile.ReadBytes(path), ConsoleJson.Default.Int64Array);
        }
        catch (JsonException e)
        {
            throw new UsageException($"'{path}' holds no JSON list of token ids such as [1, 42, 7]: {e.Message}");
        }

        return ids is { Length: > 0 } ? ids : throw new UsageException($"'{path}' holds no token ids; give at least one, such as [1].");
    }

    private static int[] Checked(long[] ids, string path, Tokenizer tokenizer)
    {
        int outside = Array.FindIndex(ids, id => id < 0 || id >= tokenizer.VocabularySize);
        return outside < 0
            ? Array.ConvertAll(ids, id => (int)id)
            : throw new UsageException(
                $"'{path}': id {ids[outside]} at position {outside} is not in the model's vocabulary; ids run from 0 to {tokenizer.VocabularySize - 1}.");
    }
}
