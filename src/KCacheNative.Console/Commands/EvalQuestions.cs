using System.CommandLine;
using KCacheNative.Console.Evaluation;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Runtime;
using Spectre.Console;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache eval demo --questions`: answers right, by policy and N.</summary>
internal static class EvalQuestions
{
    private static readonly int[] Keeps = [16, 32, 64, 128, 256];

    internal static async Task<int> RunAsync(
        Terminal terminal, ParseResult call, string model, PolicyOptions policy, MachineOptions machine, bool json, CancellationToken cancellation)
    {
        var archives = Array.ConvertAll(DemoModel.ArchiveNames, DemoModel.ReadArchive);
        CachePolicy[] asked = [.. Policies(call, policy)];
        using var file = ModelSource.Open(model);
        var report = await ProgressBars.RunAsync(terminal, bars =>
        {
            using var loaded = ModelSource.Load(file, machine.ReadContext(call), machine.ReadCache(call, 1).BatchTokens, bars, cancellation);
            var prompts = Array.ConvertAll(archives, archive => new ArchivePrompts(archive, loaded.Tokenizer));
            int context = machine.ReadContextTokens(call) ?? prompts.Max(p => p.Longest) + QuestionRunner.MostAnswerTokens;
            var options = machine.ReadCache(call, context, sequences: 2);
            CachePolicy[] policies = [.. asked.Where(p => policy.ReadKind(call) is not null || PolicyTable.IsOffered(loaded, p, options))];
            using var bar = bars.Add($"Asking {archives.Sum(a => a.Set.Questions.Length)} questions under {policies.Length} settings");
            var runner = new QuestionRunner(loaded, new TokenMeter(bar, (double)policies.Length * prompts.Sum(p => p.Tokens)), cancellation);
            return new QuestionsReport([.. policies.Select(p => Ask(loaded, runner, prompts, p, options))]);
        });
        if (json)
            ConsoleJson.Write(terminal.Out, report);
        else
            Show(terminal.OutView, report);
        return ExitCode.Success;
    }

    private static IEnumerable<CachePolicy> Policies(ParseResult call, PolicyOptions options)
    {
        var only = options.ReadKind(call);
        int[] keeps = options.ReadKeep(call) is { } keep ? [keep] : Keeps;
        yield return CachePolicy.Full;
        if (only is PolicyKind.Full or PolicyKind.Window)
        {
            var policy = options.Read(call);
            if (policy != CachePolicy.Full)
                yield return policy;
            yield break;
        }

        foreach (var kind in new[] { PolicyKind.KCache, PolicyKind.Sketch }.Where(kind => only is null || only == kind))
        {
            var policy = only is null ? options.ReadFor(call, kind) : options.Read(call);
            MixMode[] modes = kind == PolicyKind.Sketch || options.IsModeGiven(call) ? [policy.Mode] : [MixMode.Renormalized, MixMode.ExactWeights];
            foreach (var mode in modes)
            {
                foreach (int n in keeps)
                    yield return policy with { Mode = mode, Keep = n };
            }
        }
    }

    private static QuestionsRow Ask(LanguageModel model, QuestionRunner runner, ArchivePrompts[] prompts, CachePolicy policy, CacheOptions options)
    {
        using var cache = model.CreateCache(policy, options);
        var wrong = new List<WrongAnswer>();
        int recall = 0, recallAsked = 0, aggregation = 0, aggregationAsked = 0;
        foreach (var archive in prompts)
        {
            var answers = runner.Ask(cache, archive);
            foreach (var (question, answer) in archive.Archive.Set.Questions.Zip(answers))
            {
                bool isRight = answer == question.Answer.Trim();
                if (question.IsAggregation)
                    (aggregation, aggregationAsked) = (aggregation + (isRight ? 1 : 0), aggregationAsked + 1);
                else
                    (recall, recallAsked) = (recall + (isRight ? 1 : 0), recallAsked + 1);
                if (!isRight)
                    wrong.Add(new WrongAnswer(archive.Archive.Name, question.Question, question.Answer.Trim(), answer));
            }
        }

        var steps = cache.Statistics();
        bool hasRows = policy.Kind is PolicyKind.KCache or PolicyKind.Sketch;
        return new QuestionsRow(
            PolicyOptions.Word(policy.Kind),
            policy.Kind == PolicyKind.KCache ? PolicyOptions.Word(policy.Mode) : null,
            hasRows ? policy.Keep : null,
            new AnswerCount(recall, recallAsked),
            new AnswerCount(aggregation, aggregationAsked),
            steps.TailMean,
            steps.TailMax,
            wrong);
    }

    private static void Show(IAnsiConsole view, QuestionsReport report)
    {
        var table = Tables.Create("Policy", "Mode", ">N", ">Recall", ">Aggregation", ">Tail mean", ">Tail max");
        foreach (var row in report.Rows)
        {
            table.AddRow(
                Tables.Cell(row.Policy),
                Tables.Cell(row.Mode ?? "-"),
                Tables.Cell(row.Keep is { } keep ? Tables.Count(keep) : "-"),
                Tables.Cell($"{row.Recall.Right} of {row.Recall.Asked}"),
                Tables.Cell($"{row.Aggregation.Right} of {row.Aggregation.Asked}"),
                Tables.Cell(row.Keep is null ? "-" : Tables.Number(row.TailMean)),
                Tables.Cell(row.Keep is null ? "-" : Tables.Number(row.TailMax)));
        }

        view.Write(table);
        view.WriteLine("Recall: the answer is one sentence of the archive. Aggregation: it must be counted over all of it. Tail: attention weight outside the rows read exactly.");
    }
}
