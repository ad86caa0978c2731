using System.Text.RegularExpressions;

namespace KCacheNative.Console;

/// <summary>Turns whatever went wrong into one sentence for the error stream and an exit code.</summary>
internal static partial class ErrorReport
{
    /// <summary>Set to 1 in the environment, this shows where an error came from.</summary>
    internal const string DebugVariable = "KCACHE_DEBUG";

    /// <summary>Writes the sentence (and, for developers, the stack) and returns the exit code.</summary>
    internal static int Write(Exception exception, TextWriter error)
    {
        var (sentence, code) = Describe(exception);
        WriteSentence(sentence, error);
        if (Environment.GetEnvironmentVariable(DebugVariable) == "1")
            error.WriteLine(exception);
        return code;
    }

    /// <summary>Writes a sentence behind the program's name, on one line whatever it holds.</summary>
    internal static void WriteSentence(string sentence, TextWriter error) => error.WriteLine($"kcache: {OneLine(sentence)}");

    private static (string Sentence, int Code) Describe(Exception exception) => exception switch
    {
        UsageException => (exception.Message, ExitCode.Usage),
        OperationCanceledException => ("stopped before it was done.", ExitCode.Cancelled),
        KCacheException => (exception.Message, ExitCode.Failure),
        // what the library could tell from an argument alone came from the command line
        ArgumentException => (exception.Message, ExitCode.Usage),
        IOException or UnauthorizedAccessException => (exception.Message, ExitCode.Failure),
        OutOfMemoryException => ("the machine has no memory left for this; ask for a smaller --context, or give --fast-budget.", ExitCode.Failure),
        _ => ($"a defect of this program: {exception.GetType().Name}: {exception.Message} (set {DebugVariable}=1 to see where, and report it)",
            ExitCode.Failure),
    };

    private static string OneLine(string text) => LineBreaks().Replace(text.Trim(), " ");

    [GeneratedRegex(@"\s*[\r\n]+\s*")]
    private static partial Regex LineBreaks();
}
