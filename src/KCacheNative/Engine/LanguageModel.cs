using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Engine;

/// <summary>How a <see cref="LanguageModel"/> is loaded.</summary>
public sealed record ModelOptions
{
    /// <summary>What computes.</summary>
    public ContextOptions Context { get; init; } = new();

    /// <summary>Most tokens of a forward: the largest prompt window that a cache can ask for.</summary>
    public int BatchTokens { get; init; } = CacheOptions.DefaultBatchTokens;

    /// <summary>Most sequences of a forward.</summary>
    public int Sequences { get; init; } = 1;

    /// <summary>Whether the file is read from the disk now, in order, and not piecemeal by the first tokens.</summary>
    public bool ReadAhead { get; init; } = true;

    /// <summary>Told about the loading.</summary>
    public IProgress<LoadProgress>? Progress { get; init; }
}

/// <summary>
/// A model ready to use: weights, tokenizer, chat template, and a thread to compute on.
/// <code>
/// using var model = LanguageModel.Load("model.gguf");
/// using var session = model.CreateSession();
/// await foreach (var piece in session.GenerateAsync("The capital of France is"))
///     Console.Write(piece.Text);
/// </code>
/// Sessions may be used from any thread. The synchronous members compute on the caller's thread and take turns with sessions.
/// </summary>
public sealed class LanguageModel : IDisposable
{
    private readonly bool _ownsFile;
    private ForwardBatch? _batch;

    private LanguageModel(GgufFile file, bool ownsFile, ModelOptions options, CancellationToken cancellationToken)
    {
        File = file;
        _ownsFile = ownsFile;
        Compute = new ComputeThread(Gate);
        try
        {
            _ = ModelConfig.FromGguf(file);
            Tokenizer = Tokenizer.FromGguf(file);
            if (options.ReadAhead)
                file.ReadAhead(options.Progress, cancellationToken);
            Context = new ComputeContext(options.Context);
            Model = new LlamaModel(Context, file, Math.Max(options.BatchTokens, options.Sequences), options.Sequences);
            if (Tokenizer.VocabularySize > Config.VocabularySize)
                throw new ModelFormatException(
                    file.Name,
                    $"tensor '{LlamaModel.EmbeddingName}'",
                    $"it has {Config.VocabularySize} rows, the tokenizer {Tokenizer.VocabularySize} tokens",
                    "the file is damaged: convert the model again");
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The file; valid until this is disposed.</summary>
    public GgufFile File { get; }

    /// <summary>What computes.</summary>
    public ComputeContext Context { get; }

    /// <summary>The layers.</summary>
    public LlamaModel Model { get; }

    /// <summary>The shape of the model.</summary>
    public ModelConfig Config => Model.Config;

    /// <summary>Text to tokens and back.</summary>
    public Tokenizer Tokenizer { get; }

    /// <summary>Most tokens of a forward.</summary>
    public int BatchTokens => Model.BatchTokens;

    internal Lock Gate { get; } = new();

    internal ComputeThread Compute { get; }

    private ForwardBatch Batch => _batch ??= new ForwardBatch(BatchTokens);

    /// <summary>Loads a model from a file.</summary>
    /// <param name="path">A GGUF file.</param>
    /// <param name="options">How; null for the defaults.</param>
    /// <param name="cancellationToken">Stops the reading.</param>
    /// <exception cref="ModelFormatException">The file is damaged, or holds something that is not computed here.</exception>
    /// <exception cref="KCacheException">The file cannot be opened, or the native library cannot be loaded.</exception>
    public static LanguageModel Load(string path, ModelOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new ModelOptions();
        return new LanguageModel(GgufFile.Open(path, options.Progress), ownsFile: true, options, cancellationToken);
    }

    /// <summary>Loads a model from an open file, which stays the caller's and must outlive this.</summary>
    /// <param name="file">The file.</param>
    /// <param name="options">How; null for the defaults.</param>
    /// <param name="cancellationToken">Stops the reading.</param>
    /// <exception cref="ModelFormatException">The file holds something that is not computed here.</exception>
    public static LanguageModel Load(GgufFile file, ModelOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(file);
        return new LanguageModel(file, ownsFile: false, options ?? new ModelOptions(), cancellationToken);
    }

    /// <summary>Creates a cache that fits the model. Dispose it before the model.</summary>
    /// <param name="policy">How it keeps and reads its rows; null for <see cref="CachePolicy.Sketch"/>.</param>
    /// <param name="options">How large it is; null for the defaults.</param>
    /// <exception cref="KCacheException">As for <see cref="KvCache(ComputeContext, CacheShape, CachePolicy, CacheOptions?)"/>.</exception>
    public KvCache CreateCache(CachePolicy? policy = null, CacheOptions? options = null)
    {
        var resolved = Config.CacheShape.Resolve(options ?? new CacheOptions());
        if (options is not { BatchTokens: > 0 })
            resolved = resolved with { BatchTokens = Math.Min(resolved.BatchTokens, BatchTokens) };
        lock (Gate)
            return new KvCache(Context, Config.CacheShape, policy ?? CachePolicy.Sketch, resolved);
    }

    /// <summary>Creates a session with a cache of its own. Dispose it before the model.</summary>
    /// <param name="policy">How the cache keeps and reads its rows; null for <see cref="CachePolicy.Sketch"/>.</param>
    /// <param name="options">How large the cache is; null for the defaults.</param>
    /// <exception cref="KCacheException">The cache cannot be created.</exception>
    public Session CreateSession(CachePolicy? policy = null, CacheOptions? options = null)
    {
        var cache = CreateCache(policy, options);
        try
        {
            lock (Gate)
                return new Session(this, cache);
        }
        catch
        {
            cache.Dispose();
            throw;
        }
    }

    /// <summary>Creates a chat with a cache of its own. Dispose it before the model.</summary>
    /// <param name="systemMessage">What the model is told first; null for what its template adds by itself.</param>
    /// <param name="policy">How the cache keeps and reads its rows; null for <see cref="CachePolicy.Sketch"/>.</param>
    /// <param name="options">How large the cache is; null for the defaults.</param>
    /// <exception cref="ModelFormatException">The model has no chat template, or one that is not supported.</exception>
    /// <exception cref="KCacheException">The cache cannot be created.</exception>
    public Conversation CreateConversation(string? systemMessage = null, CachePolicy? policy = null, CacheOptions? options = null)
    {
        var template = ChatTemplate.FromGguf(File);
        return new Conversation(CreateSession(policy, options), template, systemMessage);
    }

    /// <summary>Runs a prompt on a sequence, in windows, on the caller's thread. After a failure the sequence is as before.</summary>
    /// <param name="cache">A cache of this model.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="ids">The tokens, at least one.</param>
    /// <param name="logits">Behind which of them the logits are wanted.</param>
    /// <param name="reader">Takes the logits, rows counted over the whole prompt; null: <see cref="LlamaModel.Logits"/> of
    /// <see cref="Model"/> has those behind the last token.</param>
    /// <param name="progress">Told per window and per layer.</param>
    /// <param name="copies">Sequences of other caches, as long as this one, that take the same keys and values; none by default.</param>
    /// <param name="cancellationToken">Looked at between layers.</param>
    /// <exception cref="ArgumentException">An id is not in the vocabulary, or there is none.</exception>
    /// <exception cref="KCacheException">The prompt does not fit into the context; nothing was run.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public void RunPrompt(
        KvCache cache,
        int sequence,
        ReadOnlyMemory<int> ids,
        LogitRows logits = LogitRows.Last,
        LogitsReader? reader = null,
        IProgress<PromptProgress>? progress = null,
        PromptCopy[]? copies = null,
        CancellationToken cancellationToken = default)
    {
        if (logits == LogitRows.All)
            ArgumentNullException.ThrowIfNull(reader);
        Run(cache, sequence, ids, EntryKind.Prompt, logits, reader, progress, copies, cancellationToken);
    }

    /// <summary>
    /// Runs a text as decode steps under the cache's policy, each token seeing those before it, a whole window in one forward: what a
    /// generation would have computed, at the speed of a prompt. After a failure the sequence is as before.
    /// </summary>
    /// <param name="cache">A cache of this model.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="ids">The tokens, at least one.</param>
    /// <param name="reader">Takes the logits behind each token in chunks: [rows, vocabulary], to be read or overwritten during the
    /// call.</param>
    /// <param name="progress">Told per window and per layer.</param>
    /// <param name="cancellationToken">Looked at between layers.</param>
    /// <exception cref="ArgumentException">An id is not in the vocabulary, or there is none.</exception>
    /// <exception cref="KCacheException">The text does not fit into the context; nothing was run.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public void ScoreDecode(
        KvCache cache,
        int sequence,
        ReadOnlyMemory<int> ids,
        LogitsReader reader,
        IProgress<PromptProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(reader);
        Run(cache, sequence, ids, EntryKind.Decode, LogitRows.All, reader, progress, copies: null, cancellationToken);
    }

    /// <summary>Ends the computing thread and frees everything but sessions and caches, which must have been disposed.</summary>
    public void Dispose()
    {
        Compute.Dispose();
        Model?.Dispose();
        Context?.Dispose();
        if (_ownsFile)
            File.Dispose();
    }

    private void Run(
        KvCache cache,
        int sequence,
        ReadOnlyMemory<int> ids,
        EntryKind kind,
        LogitRows logits,
        LogitsReader? reader,
        IProgress<PromptProgress>? progress,
        PromptCopy[]? copies,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(cache);
        lock (Gate)
            new SequenceRun(Model, Batch, cache, sequence, ids, kind, logits, reader, progress, copies).RunToEnd(cancellationToken);
    }
}
