using System.CommandLine;
using KCacheNative.Console.Evaluation;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache compare`: the same generation under several policies, side by side.</summary>
internal static class CompareCommand
{
    private const string Summary = """
        Generate the same continuation under full attention and under the cache policies, and show side by side what each costs.

        Without arguments: the embedded model answers a question about an archive of 8,068 tokens.
        """;

    internal static Command Create(Terminal terminal)
    {
        var model = ModelArgument.DemoByDefault();
        var file = OptionFactory.Text("--file", "FILE", "A UTF-8 text file, - for the standard input (default: the embedded archive)", "-f");
        var question = OptionFactory.Text("--question", "TEXT", "A question to ask at the end of the text", "-q");
        var tokens = OptionFactory.Integer("--max-tokens", 1, int.MaxValue, $"Most tokens to generate (default: {CompareRunner.DefaultTokens})", "N", "-n");
        var policy = new PolicyOptions("full, kcache and sketch, as far as they are offered");
        var machine = new MachineOptions(" (default: what the text and -n need, at most what the model was trained for)");
        var json = OptionFactory.Flag("--json", "Print JSON alone");
        var command = new Command("compare", Summary) { model, file, question, tokens };
        policy.AddTo(command);
        machine.AddTo(command);
        command.Add(json);
        command.SetAction(async (call, cancellation) =>
        {
            string name = call.GetRequiredValue(model);
            string? path = call.GetValue(file);
            string? text = path is null ? null : PromptOptions.ReadText(path, terminal);
            CachePolicy[] asked = [.. Policies(call, policy)];
            using var gguf = ModelSource.Open(name);
            int most = call.GetValue(tokens) ?? CompareRunner.DefaultTokens;
            var report = await ProgressBars.RunAsync(terminal, async bars =>
            {
                using var loaded = await Task.Run(() =>
                    ModelSource.Load(gguf, machine.ReadContext(call), machine.ReadCache(call, 0).BatchTokens, bars, cancellation));
                var prompt = ComparePrompt.Create(loaded, text, call.GetValue(question));
                int context = machine.ContextFor(call, prompt.Ids.Length, most, loaded.Config.TrainedContext);
                var options = machine.ReadCache(call, context);
                var policies = asked.Where(p => p == CachePolicy.Full || IsNamed(call, policy) || PolicyTable.IsOffered(loaded, p, options));
                return await CompareRunner.RunAsync(loaded, name, prompt, most, [.. policies], options, bars, cancellation);
            });
            if (call.GetValue(json))
                ConsoleJson.Write(terminal.Out, report);
            else
                CompareView.Show(terminal.OutView, report);
            return ExitCode.Success;
        });
        return command;
    }

    private static bool IsNamed(ParseResult call, PolicyOptions options) => options.ReadKind(call) is not null;

    private static IEnumerable<CachePolicy> Policies(ParseResult call, PolicyOptions options)
    {
        yield return CachePolicy.Full;
        if (IsNamed(call, options))
        {
            if (options.Read(call) is var policy && policy != CachePolicy.Full)
                yield return policy;
            yield break;
        }

        yield return options.ReadFor(call, PolicyKind.KCache);
        yield return options.ReadFor(call, PolicyKind.Sketch);
    }
}
