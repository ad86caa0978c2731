using System.CommandLine;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Formats;
using Spectre.Console;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache inspect`: what a model file holds.</summary>
internal static class InspectCommand
{
    internal static Command Create(Terminal terminal)
    {
        var model = ModelArgument.Required();
        var json = OptionFactory.Flag("--json", "Print JSON alone");
        var command = new Command("inspect", "List the metadata, the tensors and the tokenizer of a model file") { model, json };
        command.SetAction(call =>
        {
            string name = call.GetRequiredValue(model);
            using var file = ModelSource.Open(name);
            var report = Describe(name, file);
            if (call.GetValue(json))
                ConsoleJson.Write(terminal.Out, report);
            else
                Show(terminal.OutView, report);
            return ExitCode.Success;
        });
        return command;
    }

    internal static InspectReport Describe(string name, GgufFile file)
    {
        var (tokenizer, problem) = DescribeTokenizer(file);
        return new InspectReport(
            name,
            file.LengthBytes,
            file.Version,
            file.Alignment,
            file.Tensors.Sum(t => t.LengthBytes),
            [.. file.Metadata.Select(entry => new MetadataItem(entry.Key, entry.Value.TypeText, entry.Value.ToString()))],
            [.. file.Tensors.Select(t => new TensorItem(t.Name, t.Type.ToString(), t.Dimensions.ToArray(), t.LengthBytes))],
            tokenizer,
            problem);
    }

    // A file whose tokenizer is not supported can still be looked at; that is when people look.
    private static (TokenizerItem?, string?) DescribeTokenizer(GgufFile file)
    {
        try
        {
            var tokenizer = Tokenizer.FromGguf(file);
            return (new TokenizerItem(tokenizer.VocabularySize, tokenizer.BosId, tokenizer.EosId, tokenizer.EotId, tokenizer.AddsBos), null);
        }
        catch (ModelFormatException problem)
        {
            return (null, problem.Message);
        }
    }

    private static void Show(IAnsiConsole view, InspectReport report)
    {
        view.WriteLine($"{report.File}: GGUF version {report.GgufVersion}, {ByteSize.Format(report.FileBytes)}, {report.Tensors.Count} tensors in {ByteSize.Format(report.TensorBytes)}");
        view.WriteLine();

        var metadata = Tables.Create("Metadata", "Type", "Value");
        foreach (var item in report.Metadata)
            metadata.AddRow(Tables.Cell(item.Key), Tables.Cell(item.Type), Tables.Cell(Shorten(item.Value)));
        view.Write(metadata);

        var tensors = Tables.Create("Tensor", "Type", ">Dimensions", ">Bytes");
        foreach (var item in report.Tensors)
            tensors.AddRow(Tables.Cell(item.Name), Tables.Cell(item.Type), Tables.Cell(string.Join(" x ", item.Dimensions)), Tables.Cell(Tables.Count(item.Bytes)));
        view.Write(tensors);

        view.WriteLine(report.Tokenizer is { } t
            ? $"Tokenizer: {t.Vocabulary} tokens; begins with {Name(t.Bos)}{(t.AddsBos ? " (added to prompts)" : "")}, ends with {Name(t.Eos)}, ends a turn with {Name(t.Eot)}"
            : $"Tokenizer: cannot be used: {report.TokenizerProblem}");
    }

    private static string Name(int? id) => id is { } value ? $"token {value}" : "none";

    private static string Shorten(string text)
    {
        const int most = 60;
        string line = text.ReplaceLineEndings("\u21B5");
        return line.Length <= most ? line : line[..(most - 1)] + "…";
    }
}
