namespace KCacheNative.Console.Output;

/// <summary>What `plan --json` prints.</summary>
/// <param name="Context">Tokens of one sequence.</param>
/// <param name="Batch">Sequences at once.</param>
/// <param name="Backend">What would compute: "cpu" or "cuda".</param>
/// <param name="Device">The device's own name.</param>
/// <param name="FastHome">What fast memory is there: "ram" or "device".</param>
/// <param name="SlowHome">What slow memory is there: "file" or "pinned".</param>
/// <param name="FreeMemoryBytes">Fast memory that is free now; absent where it is not known.</param>
/// <param name="Policies">One entry a policy that this build offers.</param>
internal sealed record PlanReport(
    int Context,
    int Batch,
    string Backend,
    string Device,
    string FastHome,
    string SlowHome,
    long? FreeMemoryBytes,
    IReadOnlyList<PolicyPlan> Policies);

/// <summary>What a cache under one policy needs.</summary>
/// <param name="Policy">Its name.</param>
/// <param name="FastBytes">All of the fast home: the sum of the five parts.</param>
/// <param name="SlowBytes">The largest size of the slow home.</param>
/// <param name="WeightsBytes">The model's weights, which no budget counts.</param>
/// <param name="ActivationsBytes">What a forward writes between its kernels.</param>
/// <param name="CublasBytes">What cuBLAS takes for products of prompts; absent where they are the library's own.</param>
/// <param name="FastMinimumBytes">The smallest --fast-budget that this policy can work with.</param>
/// <param name="KeysBytes">Keys in fast memory.</param>
/// <param name="ValuesBytes">Values, or their sketch, in fast memory.</param>
/// <param name="ExactBytes">Exact rows in fast memory.</param>
/// <param name="HotBytes">Recently restored rows.</param>
/// <param name="ScratchBytes">Scores, row lists, staging, page tables.</param>
/// <param name="Problem">Why the policy cannot work with the budget given; the other figures are then those without a budget.</param>
internal sealed record PolicyPlan(
    string Policy,
    long FastBytes,
    long SlowBytes,
    long WeightsBytes,
    long ActivationsBytes,
    long? CublasBytes,
    long FastMinimumBytes,
    long KeysBytes,
    long ValuesBytes,
    long ExactBytes,
    long HotBytes,
    long ScratchBytes,
    string? Problem);
