using System.CommandLine;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache run`: continues a prompt.</summary>
internal static class RunCommand
{
    private const int DefaultTokens = 256;

    internal static Command Create(Terminal terminal)
    {
        var model = ModelArgument.Required();
        var prompt = new PromptOptions();
        var sampler = new SamplerOptions(DefaultTokens, defaultTemperature: 0);
        var policy = new PolicyOptions();
        var machine = new MachineOptions(" (default: what the prompt and -n need, at most what the model was trained for)");
        var json = OptionFactory.Flag("--json", "Print JSON alone: text, ids, speeds, memory, what the steps read");
        var command = new Command("run", "Continue a prompt; the text goes to the standard output as it is generated") { model };
        prompt.AddTo(command);
        sampler.AddTo(command);
        policy.AddTo(command);
        machine.AddTo(command);
        command.Add(json);
        command.SetAction(async (call, cancellation) =>
        {
            var cachePolicy = policy.Read(call);
            var encode = prompt.Read(call, terminal);
            using var file = ModelSource.Open(call.GetRequiredValue(model));
            int batch = machine.ReadCache(call, 0).BatchTokens;
            using var loaded = await ProgressBars.RunAsync(terminal, bars => ModelSource.Load(file, machine.ReadContext(call), batch, bars, cancellation));
            int[] ids = encode(loaded.Tokenizer);
            int context = machine.ContextFor(call, ids.Length, sampler.ReadMaxTokens(call), loaded.Config.TrainedContext);
            var bar = new PromptBar();
            var options = sampler.Read(call, loaded.Config.VocabularySize) with { Progress = bar };
            var cacheOptions = machine.ReadCache(call, context);
            FastBudget.Require(loaded, cachePolicy, cacheOptions);
            using var session = loaded.CreateSession(cachePolicy, cacheOptions);
            bool asJson = call.GetValue(json);
            bool isCancelled = await GenerateAsync(terminal, session, ids, options, bar, asJson, cancellation);
            var result = session.LastResult!;
            if (asJson)
                ConsoleJson.Write(terminal.Out, Describe(loaded.Context, ids, result));
            else if (terminal.ShowsProgress)
                ShowFigures(terminal.Error, result);
            return isCancelled ? ExitCode.Cancelled : ExitCode.Success;
        });
        return command;
    }

    /// <returns>Whether it was cancelled; what was generated until then has been written.</returns>
    private static async Task<bool> GenerateAsync(
        Terminal terminal, Session session, int[] ids, GenerationOptions options, PromptBar bar, bool isQuiet, CancellationToken cancellation)
    {
        await using var pieces = session.GenerateAsync(ids, options, cancellation).GetAsyncEnumerator(CancellationToken.None);
        try
        {
            bool more = await bar.AwaitFirstAsync(terminal, $"Reading {Tables.Count(ids.Length)} tokens", pieces);
            for (; more; more = await pieces.MoveNextAsync())
            {
                if (isQuiet)
                    continue;
                terminal.Out.Write(pieces.Current.Text);
                terminal.Out.Flush();
            }
        }
        catch (OperationCanceledException) when (session.LastResult is not null)
        {
            return true;
        }
        finally
        {
            if (!isQuiet && session.LastResult is { Ids.Count: > 0 })
                terminal.Out.WriteLine();
        }

        return false;
    }

    private static RunReport Describe(ComputeContext context, int[] ids, GenerationResult result) => new(
        MachineOptions.Word(context.Info.Backend),
        context.Info.Device,
        ids,
        [.. result.Ids],
        result.Text,
        Word(result.FinishReason),
        result.PromptTokensPerSecond,
        result.DecodeTokensPerSecond,
        ProcessMemory.PeakResidentBytes,
        context.CuBlasBytes is > 0 and var bytes ? bytes : null,
        new CacheBytes(result.Cache.FastBytes, result.Cache.SlowBytes),
        new StepCounts(
            result.Steps.Steps,
            result.Steps.TailMean,
            result.Steps.TailMax,
            result.Steps.RowsSelected,
            result.Steps.RowsRestored,
            result.Steps.RowsHot,
            result.Steps.ReadBytes,
            result.Steps.BoundMissed));

    private static string Word(FinishReason reason) => reason switch
    {
        FinishReason.Stop => "stop",
        FinishReason.Cancelled => "cancelled",
        _ => "length",
    };

    private static void ShowFigures(TextWriter error, GenerationResult result)
    {
        string end = result.FinishReason switch
        {
            FinishReason.Stop => "the text ended",
            FinishReason.Cancelled => "stopped",
            _ => "ended at -n or a full context",
        };
        error.WriteLine(
            $"[{Tables.Count(result.PromptTokens)} prompt tokens at {Tables.Number(result.PromptTokensPerSecond)}/s, " +
            $"{Tables.Count(result.Ids.Count)} tokens at {Tables.Number(result.DecodeTokensPerSecond)}/s, {end}; " +
            $"cache {ByteSize.Format(result.Cache.FastBytes)} fast, {ByteSize.Format(result.Cache.SlowBytes)} slow]");
    }
}
