using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace KCacheNative.Console.Options;

/// <summary>
/// Makes options whose errors name the option, what it takes and what it was given. Every value is null where the option was not
/// given, so that a default may depend on other options; descriptions tell the defaults.
/// </summary>
internal static class OptionFactory
{
    internal static Option<int?> Integer(string name, int least, int most, string description, string helpName = "N", params string[] aliases) =>
        Make<int?>(name, aliases, helpName, description, text =>
            int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int value) && value >= least && value <= most
                ? value
                : throw new FormatException(most == int.MaxValue ? $"a whole number from {least} up" : $"a whole number from {least} to {most}"));

    internal static Option<ulong?> Seed(string name, string description) =>
        Make<ulong?>(name, [], "N", description, text => ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ulong value)
            ? value
            : throw new FormatException("a whole number from 0 up"));

    internal static Option<float?> Real(string name, float least, float most, string description, string helpName = "X") =>
        Make<float?>(name, [], helpName, description, text =>
            float.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out float value) && value >= least && value <= most
                ? value
                : throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"a number from {least} to {most}")));

    /// <summary>A share of a whole: from 0 to below 1.</summary>
    internal static Option<float?> Share(string name, string description) =>
        Make<float?>(name, [], "X", description, text =>
            float.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out float value) && value is >= 0 and < 1
                ? value
                : throw new FormatException("a number from 0 to below 1"));

    internal static Option<long?> Size(string name, string description) =>
        Make<long?>(name, [], "SIZE", description, text => ByteSize.TryParse(text, out long bytes)
            ? bytes
            : throw new FormatException($"a size such as {ByteSize.Examples}"));

    internal static Option<string?> Text(string name, string helpName, string description, params string[] aliases) =>
        Make<string?>(name, aliases, helpName, description, text => text);

    internal static Option<string[]> Texts(string name, string helpName, string description) =>
        new(name) { HelpName = helpName, Description = description, Arity = ArgumentArity.ZeroOrMore };

    internal static Option<bool> Flag(string name, string description) => new(name) { Description = description };

    /// <summary>A list of whole numbers with commas between them: 0,3,5.</summary>
    internal static Option<int[]?> Integers(string name, int least, string description, string helpName = "N,N,...") =>
        Make<int[]?>(name, [], helpName, description, text => Array.ConvertAll(text.Split(','), part =>
            int.TryParse(part.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out int value) && value >= least
                ? value
                : throw new FormatException($"whole numbers from {least} up with commas between them, such as 0,3")));

    /// <summary>One of a few words, each of which stands for a value.</summary>
    internal static Option<T?> Choice<T>(string name, (string Word, T Value)[] words, string description)
        where T : struct
    {
        var option = Make<T?>(name, [], string.Join('|', words.Select(w => w.Word)), description, text => Pick(words, text));
        option.CompletionSources.Add(words.Select(w => w.Word).ToArray());
        return option;
    }

    /// <summary>Several of a few words, with commas between them.</summary>
    internal static Option<T[]?> Choices<T>(string name, (string Word, T Value)[] words, string description)
        where T : struct =>
        Make<T[]?>(name, [], string.Join(',', words.Select(w => w.Word)), description,
            text => Array.ConvertAll(text.Split(','), part => Pick(words, part.Trim())));

    /// <summary>A list as given, or null; for the parser a list that was not given is an empty one.</summary>
    internal static T[]? GetList<T>(this ParseResult call, Option<T[]?> option) => call.GetValue(option) is { Length: > 0 } list ? list : null;

    private static T Pick<T>((string Word, T Value)[] words, string text)
    {
        foreach (var (word, value) in words)
        {
            if (word == text)
                return value;
        }

        throw new FormatException(string.Join(", ", words[..^1].Select(w => w.Word)) + $" or {words[^1].Word}");
    }

    /// <param name="parse">Reads the text; a <see cref="FormatException"/> says what would have been right.</param>
    private static Option<T> Make<T>(string name, string[] aliases, string helpName, string description, Func<string, T> parse) =>
        new(name, aliases)
        {
            HelpName = helpName,
            Description = description,
            Arity = ArgumentArity.ExactlyOne,
            CustomParser = result => Parse(result, name, parse),
        };

    private static T Parse<T>(ArgumentResult result, string name, Func<string, T> parse)
    {
        string text = result.Tokens[0].Value;
        try
        {
            return parse(text);
        }
        catch (FormatException wanted)
        {
            result.AddError($"{name} takes {wanted.Message}, not '{text}'.");
            return default!;
        }
    }
}
