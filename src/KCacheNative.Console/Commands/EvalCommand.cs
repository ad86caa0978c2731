using System.CommandLine;
using KCacheNative.Console.Evaluation;
using KCacheNative.Console.Options;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache eval`: what a policy costs in quality.</summary>
internal static class EvalCommand
{
    private const string Summary = """
        Measure what a cache policy costs in quality.

        Over windows of --context tokens of a text, the last --last tokens are predicted one by one, under the policy and under full attention,
        and the two are compared. With --sweep many settings are, into a table and a plot. With --questions the embedded archives' questions
        are asked instead.
        """;

    internal static Command Create(Terminal terminal)
    {
        var model = ModelArgument.DemoByDefault();
        var file = OptionFactory.Text("--file", "FILE", "A UTF-8 text file; - reads the standard input", "-f");
        var last = OptionFactory.Integer("--last", 1, int.MaxValue, "Tokens predicted one by one at the end of each window (default: 128)");
        var windows = OptionFactory.Integers("--windows", 0, "Numbers of the windows; window w begins at token w times --context (default: 0)");
        var questions = OptionFactory.Flag("--questions", "Ask the questions of the embedded archives, by policy and N");
        var sweepOptions = new SweepOptions();
        var machine = new MachineOptions(": the window (default: 2048)");
        var policy = new PolicyOptions($"{PolicyOptions.Word(PolicyOptions.DefaultPolicy)}; with --questions all that are offered");
        var json = OptionFactory.Flag("--json", "Print JSON alone");
        var command = new Command("eval", Summary) { model, file, last, windows, questions };
        sweepOptions.AddTo(command);
        policy.AddTo(command);
        machine.AddTo(command);
        command.Add(json);
        command.Validators.Add(result =>
        {
            bool asks = result.GetValue(questions);
            if (asks == result.GetResult(file) is not null)
                result.AddError(asks ? "eval takes --questions or -f FILE, not both." : "eval needs a text: -f FILE, or --questions for the embedded archives.");
            if (asks && sweepOptions.IsGiven(result))
                result.AddError("eval takes --questions or --sweep, not both.");
            if (asks && new Option[] { last, windows }.FirstOrDefault(option => result.GetResult(option) is not null) is { } ofText)
                result.AddError($"{ofText.Name} has no effect with --questions; leave it out, or give a text with -f FILE.");
            if (sweepOptions.IsGiven(result) && policy.FirstGiven(result) is { } ofPolicy)
                result.AddError($"{ofPolicy.Name} has no effect with --sweep, which goes through --sweep-policies, --sweep-keep and --sweep-codecs; leave it out.");
        });
        command.SetAction(async (call, cancellation) =>
        {
            string name = call.GetRequiredValue(model);
            if (call.GetValue(questions))
                return await EvalQuestions.RunAsync(terminal, call, name, policy, machine, call.GetValue(json), cancellation);
            string path = call.GetValue(file)!;
            var text = new EvalText(
                path,
                PromptOptions.ReadText(path, terminal),
                machine.ReadContextTokens(call) ?? 2048,
                call.GetValue(last) ?? 128,
                call.GetList(windows) ?? [0]);
            text.Check();
            return sweepOptions.IsGiven(call)
                ? await EvalSweep.RunAsync(terminal, call, name, text, sweepOptions, machine, call.GetValue(json), cancellation)
                : await EvalWindows.RunAsync(terminal, call, name, text, policy, machine, call.GetValue(json), cancellation);
        });
        return command;
    }
}
