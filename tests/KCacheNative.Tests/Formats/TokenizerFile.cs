using KCacheNative.Formats;

namespace KCacheNative.Tests.Formats;

/// <summary>A small byte-level vocabulary as a GGUF file: all 256 bytes, a few merges, special tokens of each kind.</summary>
internal static class TokenizerFile
{
    private static readonly string[] Special = ["<|end|>", "<|user|>", "<|end|>>", "<think>"];

    internal static string[] Merges { get; } = ["h i", "Ġ h", "Ġh i", "l l"];

    internal static string[] Tokens { get; } =
        [.. Enumerable.Range(0, 256).Select(value => Letter((byte)value)), .. Merges.Select(merge => merge.Replace(" ", "")), .. Special];

    internal static string Letter(byte value) => ByteLevelAlphabet.Letter(value).ToString();

    internal static int[] Kinds(string[] tokens) =>
        Array.ConvertAll(tokens, token =>
            (int)(token == "<think>" ? TokenKind.UserDefined : Special.Contains(token) ? TokenKind.Control : TokenKind.Normal));

    /// <summary>A writer with everything a tokenizer needs; tests leave keys out or add contradicting ones.</summary>
    internal static GgufWriter Writer(string[]? tokens = null, string[]? merges = null, string pre = "smollm", params string[] without)
    {
        tokens ??= Tokens;
        var writer = new GgufWriter();
        var keys = new Dictionary<string, Action<string>>
        {
            ["tokenizer.ggml.model"] = key => writer.Add(key, "gpt2"),
            ["tokenizer.ggml.pre"] = key => writer.Add(key, pre),
            ["tokenizer.ggml.tokens"] = key => writer.Add(key, tokens),
            ["tokenizer.ggml.token_type"] = key => writer.Add(key, Kinds(tokens)),
            ["tokenizer.ggml.merges"] = key => writer.Add(key, merges ?? Merges),
            ["tokenizer.ggml.bos_token_id"] = key => writer.Add(key, (uint)Array.IndexOf(tokens, "<|user|>")),
            ["tokenizer.ggml.eos_token_id"] = key => writer.Add(key, (uint)Array.IndexOf(tokens, "<|end|>")),
        };
        foreach (var (key, add) in keys.Where(entry => !without.Contains(entry.Key)))
            add(key);
        return writer;
    }

    internal static Tokenizer Build(
        Action<GgufWriter>? more = null, string[]? tokens = null, string[]? merges = null, string pre = "smollm")
    {
        var writer = Writer(tokens, merges, pre);
        more?.Invoke(writer);
        using var file = GgufFile.FromMemory(writer.ToArray());
        return Tokenizer.FromGguf(file);
    }
}
