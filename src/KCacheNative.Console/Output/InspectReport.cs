namespace KCacheNative.Console.Output;

/// <summary>What `inspect --json` prints.</summary>
/// <param name="File">The file as it was named.</param>
/// <param name="FileBytes">Its size.</param>
/// <param name="GgufVersion">2 or 3.</param>
/// <param name="Alignment">Of tensor data, in bytes.</param>
/// <param name="TensorBytes">Of all tensors together.</param>
/// <param name="Metadata">In the order of the file.</param>
/// <param name="Tensors">In the order of the file.</param>
/// <param name="Tokenizer">Absent where the file has none that can be used; then <paramref name="TokenizerProblem"/> says why.</param>
/// <param name="TokenizerProblem">Why the tokenizer cannot be used.</param>
internal sealed record InspectReport(
    string File,
    long FileBytes,
    int GgufVersion,
    int Alignment,
    long TensorBytes,
    IReadOnlyList<MetadataItem> Metadata,
    IReadOnlyList<TensorItem> Tensors,
    TokenizerItem? Tokenizer,
    string? TokenizerProblem);

/// <summary>One metadata entry; long arrays are cut after their first elements.</summary>
internal sealed record MetadataItem(string Key, string Type, string Value);

/// <summary>One tensor.</summary>
/// <param name="Name">Unique within the file.</param>
/// <param name="Type">How its elements are stored.</param>
/// <param name="Dimensions">The contiguous one first.</param>
/// <param name="Bytes">Of its data.</param>
internal sealed record TensorItem(string Name, string Type, long[] Dimensions, long Bytes);

/// <summary>The tokenizer in short.</summary>
internal sealed record TokenizerItem(int Vocabulary, int? Bos, int? Eos, int? Eot, bool AddsBos);
