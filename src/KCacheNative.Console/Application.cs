using System.CommandLine;
using System.CommandLine.Invocation;
using KCacheNative.Console.Commands;

namespace KCacheNative.Console;

/// <summary>The program: its commands, and what becomes of errors.</summary>
internal static class Application
{
    /// <summary>Runs one call and returns its <see cref="ExitCode"/>; throws nothing.</summary>
    internal static async Task<int> RunAsync(IReadOnlyList<string> args, Terminal terminal)
    {
        try
        {
            var call = CreateRoot(terminal).Parse(args);
            if (call.Action is ParseErrorAction)
                return RefuseCall(call, terminal.Error);
            var configuration = new InvocationConfiguration
            {
                EnableDefaultExceptionHandler = false,
                Output = terminal.Out,
                Error = terminal.Error,
                ProcessTerminationTimeout = null, // signals are Interruption's
            };
            return await call.InvokeAsync(configuration, terminal.Interruption.Token);
        }
        catch (Exception exception)
        {
            return ErrorReport.Write(exception, terminal.Error);
        }
        finally
        {
            terminal.Out.Flush();
            terminal.Error.Flush();
        }
    }

    internal static RootCommand CreateRoot(Terminal terminal)
    {
        var root = new RootCommand(
            "KCacheNative: run Llama-family models whose key/value cache does not fit the fast memory.\n" +
            "Start with `kcache compare`: it needs no model and no file.\n\n" +
            $"Exit codes: {ExitCode.Success} success, {ExitCode.Failure} failure, {ExitCode.Usage} wrong usage, " +
            $"{ExitCode.Cancelled} stopped by Ctrl-C. {ErrorReport.DebugVariable}=1 shows where an error came from.")
        {
            CompareCommand.Create(terminal),
            RunCommand.Create(terminal),
            ChatCommand.Create(terminal),
            PlanCommand.Create(terminal),
            EvalCommand.Create(terminal),
            InspectCommand.Create(terminal),
            TokenizeCommand.Create(terminal),
            DevicesCommand.Create(terminal),
        };
        root.SetAction((_, _) => root.Parse(["--help"]).InvokeAsync(new InvocationConfiguration { Output = terminal.Out }));
        return root;
    }

    private static int RefuseCall(ParseResult call, TextWriter error)
    {
        string command = string.Join(' ', CommandPath(call.CommandResult.Command));
        // a missing MODEL explains itself better than what else is missing with it
        var missing = call.CommandResult.Command.Arguments
            .FirstOrDefault(argument => argument.Arity.MinimumNumberOfValues > 0 && call.GetResult(argument) is not { Tokens.Count: > 0 });
        string message = missing is null ? call.Errors[0].Message.Trim().TrimEnd('.') : $"{missing.Name} is missing: {missing.Description}";
        ErrorReport.WriteSentence($"{message}. `{command} --help` lists what it takes.", error);
        return ExitCode.Usage;
    }

    private static IEnumerable<string> CommandPath(Command command) =>
        command is RootCommand ? ["kcache"] : CommandPath(command.Parents.OfType<Command>().First()).Append(command.Name);
}
