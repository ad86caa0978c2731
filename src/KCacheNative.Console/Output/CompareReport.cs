namespace KCacheNative.Console.Output;

/// <summary>What `compare --json` prints.</summary>
/// <param name="Model">As it was named.</param>
/// <param name="Backend">What computed: "cpu" or "cuda".</param>
/// <param name="Device">The device's own name.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="Question">The question at the prompt's end, if one was asked.</param>
/// <param name="ExpectedAnswer">The right answer, where it is known.</param>
/// <param name="Agree">Whether all policies generated the same tokens.</param>
/// <param name="Policies">One entry a policy; `full` is the first.</param>
internal sealed record CompareReport(
    string Model,
    string Backend,
    string Device,
    int PromptTokens,
    string? Question,
    string? ExpectedAnswer,
    bool Agree,
    IReadOnlyList<CompareEntry> Policies);

/// <summary>One generation.</summary>
/// <param name="Policy">Its name.</param>
/// <param name="Text">What was generated.</param>
/// <param name="Ids">Its tokens.</param>
/// <param name="TokensAgreeing">How many tokens, from the first on, are those of `full`.</param>
/// <param name="FastBytes">Bytes of the cache in the fast home as it ran.</param>
/// <param name="FastMinimumBytes">Bytes of the fast home that this policy could have worked with, the other rows in the slow home.</param>
/// <param name="BytesReadPerToken">Bytes of cache read per generated token.</param>
/// <param name="PromptTokensPerSecond">Speed of the prompt.</param>
/// <param name="DecodeTokensPerSecond">Speed of generation.</param>
/// <param name="TailMean">Mean attention weight outside the exact rows.</param>
/// <param name="TailMax">The largest.</param>
internal sealed record CompareEntry(
    string Policy,
    string Text,
    int[] Ids,
    int TokensAgreeing,
    long FastBytes,
    long FastMinimumBytes,
    double BytesReadPerToken,
    double PromptTokensPerSecond,
    double DecodeTokensPerSecond,
    double TailMean,
    double TailMax);
