namespace KCacheNative.Console.Output;

/// <summary>What `eval demo --questions --json` prints.</summary>
/// <param name="Rows">One entry a policy and N.</param>
internal sealed record QuestionsReport(IReadOnlyList<QuestionsRow> Rows);

/// <summary>Answers under one policy.</summary>
/// <param name="Policy">Its name.</param>
/// <param name="Mode">"renormalized" or "exact-weights", for kcache.</param>
/// <param name="Keep">N, for the policies that have one.</param>
/// <param name="Recall">Questions whose answer is one sentence of the archive.</param>
/// <param name="Aggregation">Questions that need the whole archive.</param>
/// <param name="TailMean">Mean attention weight outside the exact rows.</param>
/// <param name="TailMax">The largest.</param>
/// <param name="Wrong">What was answered wrongly.</param>
internal sealed record QuestionsRow(
    string Policy, string? Mode, int? Keep, AnswerCount Recall, AnswerCount Aggregation, double TailMean, double TailMax, IReadOnlyList<WrongAnswer> Wrong);

/// <summary>Answers right, of all asked.</summary>
internal sealed record AnswerCount(int Right, int Asked);

/// <summary>A wrong answer beside the right one.</summary>
internal sealed record WrongAnswer(string Archive, string Question, string Expected, string Answer);
