using System.CommandLine;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache chat`: a conversation; only the new turn is run.</summary>
internal static class ChatCommand
{
    private const int DefaultTokens = 1024;
    private const float DefaultTemperature = 0.7f;

    internal static Command Create(Terminal terminal)
    {
        var model = ModelArgument.Required();
        var system = OptionFactory.Text("--system", "TEXT", "What the model is told first (default: what its template adds)");
        var sampler = new SamplerOptions(DefaultTokens, DefaultTemperature);
        var policy = new PolicyOptions();
        var machine = new MachineOptions(" (default: what the model was trained for, at most 8192)");
        var command = new Command("chat", "Talk with a model; /reset begins anew, /exit ends, Ctrl-C stops an answer") { model, system };
        sampler.AddTo(command);
        policy.AddTo(command);
        machine.AddTo(command);
        command.SetAction(async (call, cancellation) =>
        {
            var cachePolicy = policy.Read(call);
            var cacheOptions = machine.ReadCache(call, machine.ReadContextTokens(call) ?? 0);
            using var file = ModelSource.Open(call.GetRequiredValue(model));
            using var loaded = await ProgressBars.RunAsync(terminal,
                bars => ModelSource.Load(file, machine.ReadContext(call), cacheOptions.BatchTokens, bars, cancellation));
            FastBudget.Require(loaded, cachePolicy, cacheOptions);
            var options = sampler.Read(call, loaded.Config.VocabularySize);
            return await TalkAsync(terminal, () => loaded.CreateConversation(call.GetValue(system), cachePolicy, cacheOptions), options, cancellation);
        });
        return command;
    }

    private static async Task<int> TalkAsync(Terminal terminal, Func<Conversation> begin, GenerationOptions options, CancellationToken cancellation)
    {
        var conversation = begin();
        try
        {
            while (true)
            {
                string? line = await ReadLineAsync(terminal, cancellation);
                switch (line?.Trim())
                {
                    case null or "/exit" or "/quit":
                        return ExitCode.Success;
                    case "":
                        continue;
                    case "/reset":
                        conversation.Dispose();
                        conversation = begin();
                        Tell(terminal, "begun anew");
                        continue;
                    case ['/', ..]:
                        Tell(terminal, "/reset begins anew, /exit ends; anything else is said to the model");
                        continue;
                    default:
                        await AnswerAsync(terminal, conversation, line, options);
                        continue;
                }
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            return ExitCode.Cancelled; // pressed while nothing was being answered
        }
        finally
        {
            conversation.Dispose();
        }
    }

    // Reading a line cannot be cancelled, so it is left behind.
    private static async Task<string?> ReadLineAsync(Terminal terminal, CancellationToken cancellation)
    {
        if (terminal.IsInteractive)
        {
            terminal.Out.Write("> ");
            terminal.Out.Flush();
        }

        return await Task.Run(terminal.In.ReadLine, CancellationToken.None).WaitAsync(cancellation);
    }

    private static async Task AnswerAsync(Terminal terminal, Conversation conversation, string message, GenerationOptions options)
    {
        using var turn = terminal.Interruption.BeginTurn();
        var bar = new PromptBar();
        bool isWriting = false;
        try
        {
            await using var pieces = conversation.SendAsync(message, options with { Progress = bar }, turn.Token).GetAsyncEnumerator(CancellationToken.None);
            for (bool more = await bar.AwaitFirstAsync(terminal, "Reading", pieces); more; more = await pieces.MoveNextAsync())
            {
                isWriting = true;
                terminal.Out.Write(pieces.Current.Text);
                terminal.Out.Flush();
            }

            terminal.Out.WriteLine();
            ShowFigures(terminal, conversation);
        }
        catch (OperationCanceledException) when (turn.Token.IsCancellationRequested)
        {
            if (isWriting)
                terminal.Out.WriteLine();
            Tell(terminal, "stopped; the model has forgotten this turn");
        }
        catch (KCacheException refusal) when (refusal.Status == Status.Capacity)
        {
            Tell(terminal, $"{refusal.Message}; /reset begins anew");
        }
    }

    private static void ShowFigures(Terminal terminal, Conversation conversation)
    {
        var result = conversation.Session.LastResult!;
        int used = conversation.Session.Tokens.Count, context = conversation.Session.ContextTokens;
        string end = used >= context ? "; the context is full, /reset begins anew" : result.FinishReason == FinishReason.Length ? "; cut off at -n" : "";
        Tell(terminal, $"{Tables.Count(used)} of {Tables.Count(context)} tokens, {Tables.Number(result.DecodeTokensPerSecond)} tokens/s{end}");
    }

    private static void Tell(Terminal terminal, string text)
    {
        if (terminal.IsInteractive || terminal.ShowsProgress)
            terminal.Error.WriteLine($"[{text}]");
    }
}
