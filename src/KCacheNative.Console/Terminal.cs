using System.Text;
using Spectre.Console;

namespace KCacheNative.Console;

/// <summary>Where a command reads and writes. Results go to the output, everything else to the error stream.</summary>
internal sealed class Terminal
{
    private Terminal(
        TextReader input, TextWriter output, TextWriter error, IAnsiConsole outView, Interruption interruption, bool showsProgress, bool isInteractive)
    {
        In = input;
        Out = output;
        Error = error;
        Interruption = interruption;
        ShowsProgress = showsProgress;
        IsInteractive = isInteractive;
        OutView = outView;
        ErrorView = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(error) });
    }

    internal TextReader In { get; }

    internal TextWriter Out { get; }

    internal TextWriter Error { get; }

    /// <summary>The output for tables and colours; plain text where it is no terminal.</summary>
    internal IAnsiConsole OutView { get; }

    /// <summary>The error stream for progress bars.</summary>
    internal IAnsiConsole ErrorView { get; }

    /// <summary>Ctrl-C and termination signals.</summary>
    internal Interruption Interruption { get; }

    /// <summary>Whether progress bars are drawn: only where the error stream is a terminal.</summary>
    internal bool ShowsProgress { get; }

    /// <summary>Whether a person types at the other end of the input.</summary>
    internal bool IsInteractive { get; }

    /// <summary>The streams and signals of this process.</summary>
    internal static Terminal OfProcess()
    {
        System.Console.OutputEncoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
        var view = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(System.Console.Out) });
        return new Terminal(System.Console.In, System.Console.Out, System.Console.Error, view, Interruption.OfProcess(),
            showsProgress: !System.Console.IsErrorRedirected, isInteractive: !System.Console.IsInputRedirected);
    }

    /// <summary>Streams of a caller's own, without colours and signals, 80 columns wide.</summary>
    internal static Terminal Of(TextReader input, TextWriter output, TextWriter error)
    {
        var view = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = AnsiSupport.No,
            ColorSystem = ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
            Out = new AnsiConsoleOutput(output),
        });
        view.Profile.Width = 80;
        return new Terminal(input, output, error, view, Interruption.WithoutSignals(), showsProgress: false, isInteractive: false);
    }
}
