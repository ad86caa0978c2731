using System.CommandLine;
using KCacheNative.Runtime;

namespace KCacheNative.Console.Options;

/// <summary>How large the cache is, where it may lie and what computes: the same options in every command that runs a model.</summary>
internal sealed class MachineOptions
{
    /// <summary>Contexts are rounded up to whole pages of the cache.</summary>
    private const int PageTokens = 64;

    private static readonly (string, Backend)[] BackendWords = [("auto", Backend.Auto), ("cpu", Backend.Cpu), ("cuda", Backend.Cuda)];
    private static readonly (string, Activations)[] ActivationWords = [("q8", Activations.Q8), ("f32", Activations.F32)];

    private readonly Option<Backend?> _backend = OptionFactory.Choice("--backend", BackendWords,
        "What computes: the processor, or an NVIDIA GPU (default: auto, a GPU where one works)");
    private readonly Option<int?> _device = OptionFactory.Integer("--device", 0, int.MaxValue,
        "Number of the GPU, as `kcache devices` lists it (default: 0)");
    private readonly Option<int?> _context;
    private readonly Option<int?> _batchTokens = OptionFactory.Integer("--batch-tokens", 1, int.MaxValue,
        $"Tokens of a prompt that run at once (default: {CacheOptions.DefaultBatchTokens})");
    private readonly Option<Activations?> _activations = OptionFactory.Choice("--activations", ActivationWords,
        "Inputs of matrix products with quantised weights: in 8 bits, or as they are (slower) (default: q8)");
    private readonly Option<long?> _fastBudget = OptionFactory.Size("--fast-budget",
        $"Most fast memory (RAM; of a GPU its own) for the cache, such as {ByteSize.Examples}; what does not fit goes to the slow home: "
        + "a file, with a GPU pinned RAM (default: no limit)");
    private readonly Option<string?> _spillDir = OptionFactory.Text("--spill-dir", "DIR",
        "Directory of the slow home's file, on a disk; a GPU needs none (default: the system's temporary directory)");
    private readonly Option<int?> _threads = OptionFactory.Integer("--threads", 1, 1024, "Threads of the processor (default: one per core)");

    /// <param name="contextDescription">What the command takes where no --context is given.</param>
    internal MachineOptions(string contextDescription) =>
        _context = OptionFactory.Integer("--context", 1, 1 << 30, $"Tokens that the cache has room for{contextDescription}");

    internal void AddTo(Command command)
    {
        foreach (Option option in new Option[] { _context, _backend, _device, _fastBudget, _spillDir, _batchTokens, _activations, _threads })
            command.Add(option);
    }

    /// <summary>What computes.</summary>
    /// <exception cref="UsageException">The device is not there.</exception>
    /// <exception cref="KCacheException">The backend does not work on this machine.</exception>
    internal ContextOptions ReadContext(ParseResult call)
    {
        var options = new ContextOptions
        {
            Backend = call.GetValue(_backend) ?? Backend.Auto,
            Device = call.GetValue(_device) ?? 0,
            Threads = call.GetValue(_threads) ?? 0,
            Activations = call.GetValue(_activations) ?? Activations.Q8,
        };
        DeviceChoice.Require(options.Backend, options.Device);
        return options;
    }

    /// <summary>A backend's name, as --backend takes it.</summary>
    internal static string Word(Backend backend) => Array.Find(BackendWords, word => word.Item2 == backend).Item1;

    /// <summary>Size and homes of a cache.</summary>
    /// <param name="call">The call.</param>
    /// <param name="context">Tokens of a sequence.</param>
    /// <param name="sequences">Sequences at once.</param>
    internal CacheOptions ReadCache(ParseResult call, int context, int sequences = 1) => new()
    {
        Context = context,
        Sequences = sequences,
        BatchTokens = call.GetValue(_batchTokens) ?? 0,
        FastBudgetBytes = call.GetValue(_fastBudget) ?? 0,
        SpillDirectory = call.GetValue(_spillDir),
    };

    /// <summary>--context as given, or null.</summary>
    internal int? ReadContextTokens(ParseResult call) => call.GetValue(_context);

    /// <summary>--fast-budget as given, or null.</summary>
    internal long? ReadFastBudget(ParseResult call) => call.GetValue(_fastBudget);

    /// <summary>
    /// The context for a prompt and what is generated behind it: as given, else what both need in whole pages, but no more than the model
    /// was trained for.
    /// </summary>
    /// <exception cref="UsageException">The prompt alone does not fit.</exception>
    internal int ContextFor(ParseResult call, int promptTokens, int newTokens, int trainedContext)
    {
        int? given = ReadContextTokens(call);
        long needed = ((long)promptTokens + newTokens + PageTokens - 1) / PageTokens * PageTokens;
        int context = given ?? (int)Math.Min(needed, trainedContext);
        if (promptTokens <= context)
            return context;
        throw new UsageException(given is null
            ? $"the prompt has {promptTokens} tokens, more than the {trainedContext} that the model was trained for; shorten it, or insist with --context {needed}."
            : $"the prompt has {promptTokens} tokens, but --context {given} has no room for them; shorten it, or give --context {Math.Min(needed, int.MaxValue)}.");
    }
}
