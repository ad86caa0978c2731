using System.Text;

namespace KCacheNative.Formats;

/// <summary>What a token is for; the values are those of the GGUF format (tokenizer.ggml.token_type).</summary>
public enum TokenKind
{
    Undefined = 0,
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// <summary>The tokenizer's part of a model file, checked: tokens, their kinds, merges, and the ids of the tokens with a meaning.</summary>
internal sealed class TokenizerVocabulary
{
    private const string Prefix = "tokenizer.ggml.";
    private const string TokensKey = Prefix + "tokens";
    private const string MergesKey = Prefix + "merges";
    private const string KindsKey = Prefix + "token_type";

    private readonly GgufMetadata _metadata;
    private readonly Dictionary<string, int> _ids;

    internal TokenizerVocabulary(GgufFile file)
    {
        _metadata = file.Metadata;
        string model = _metadata.GetString(Prefix + "model");
        if (model != "gpt2")
            throw _metadata.Invalid(
                Prefix + "model", $"the tokenizer '{model}' is not supported", "use a model with the tokenizer gpt2 (byte-level BPE)");
        string pre = _metadata.GetString(Prefix + "pre", "default");
        PreTokenizer = TokenizerPreTokenizer.ByName(pre)
            ?? throw _metadata.Invalid(
                Prefix + "pre",
                $"the pre-tokenizer '{pre}' is not supported",
                $"use a model with one of: {TokenizerPreTokenizer.SupportedNames}");

        Tokens = _metadata.GetStrings(TokensKey).ToArray();
        _ids = IndexTokens();
        CheckSize(file);
        Kinds = ReadKinds();
        Merges = _metadata.GetStrings(MergesKey).ToArray();
        CheckMerges();

        BosId = ReadId("bos_token_id");
        EosId = ReadId("eos_token_id");
        EotId = ReadId("eot_token_id");
        EomId = ReadId("eom_token_id");
        AddsBos = _metadata.GetBoolean(Prefix + "add_bos_token", false);
        if (AddsBos && BosId is null)
            throw _metadata.Invalid(Prefix + "add_bos_token", $"it is true, but {Prefix}bos_token_id is missing");
    }

    internal string[] Tokens { get; }

    internal TokenKind[] Kinds { get; }

    internal string[] Merges { get; }

    internal TokenizerPreTokenizer PreTokenizer { get; }

    internal int? BosId { get; }

    internal int? EosId { get; }

    internal int? EotId { get; }

    internal int? EomId { get; }

    internal bool AddsBos { get; }

    internal bool TryGetId(string token, out int id) => _ids.TryGetValue(token, out id);

    /// <summary>Tokens that text can become by merging: control tokens and unused ones never come from plain text.</summary>
    internal bool IsMergeable(int id) => Kinds[id] is not (TokenKind.Control or TokenKind.Unused);

    /// <summary>The bytes a token stands for: of a normal token those its letters spell, of others the text itself.</summary>
    internal byte[] BytesOf(int id)
    {
        string token = Tokens[id];
        if (Kinds[id] is not (TokenKind.Normal or TokenKind.Undefined))
            return Encoding.UTF8.GetBytes(token);
        var bytes = new byte[token.Length];
        for (int i = 0; i < token.Length; i++)
        {
            if (!ByteLevelAlphabet.TryGetByte(token[i], out bytes[i]))
                return Encoding.UTF8.GetBytes(token);
        }

        return bytes;
    }

    private Dictionary<string, int> IndexTokens()
    {
        if (Tokens.Length == 0)
            throw _metadata.Invalid(TokensKey, "it is empty");
        var ids = new Dictionary<string, int>(Tokens.Length, StringComparer.Ordinal);
        for (int id = 0; id < Tokens.Length; id++)
        {
            if (Tokens[id].Length == 0)
                throw _metadata.Invalid(TokensKey, $"token {id} is empty");
            if (!ids.TryAdd(Tokens[id], id))
                throw _metadata.Invalid(TokensKey, $"tokens {ids[Tokens[id]]} and {id} are both '{Tokens[id]}'");
        }

        return ids;
    }

    /// <summary>The model's tables have a row per token, so that no id can point behind them.</summary>
    private void CheckSize(GgufFile file)
    {
        if (_metadata.GetString("general.architecture", null) is { } architecture)
        {
            string key = architecture + ".vocab_size";
            int size = _metadata.GetInt32(key, Tokens.Length);
            if (size != Tokens.Length)
                throw _metadata.Invalid(TokensKey, $"it has {Tokens.Length} tokens, but {key} is {size}");
        }

        if (file.TryGetTensor("token_embd.weight", out var embedding) && embedding.Dimensions.Length == 2
            && embedding.Dimensions[1] != Tokens.Length)
            throw _metadata.Invalid(TokensKey, $"it has {Tokens.Length} tokens, but token_embd.weight has {embedding.Dimensions[1]} rows");
    }

    private TokenKind[] ReadKinds()
    {
        if (!_metadata.ContainsKey(KindsKey))
            return Enumerable.Repeat(TokenKind.Normal, Tokens.Length).ToArray();
        int[] kinds = _metadata.GetInt32s(KindsKey);
        if (kinds.Length != Tokens.Length)
            throw _metadata.Invalid(KindsKey, $"it has {kinds.Length} entries for {Tokens.Length} tokens");
        int wrong = Array.FindIndex(kinds, kind => kind is < (int)TokenKind.Undefined or > (int)TokenKind.Byte);
        return wrong < 0
            ? Array.ConvertAll(kinds, kind => (TokenKind)kind)
            : throw _metadata.Invalid(KindsKey, $"the kind of token {wrong} is {kinds[wrong]}, expected 0 to {(int)TokenKind.Byte}");
    }

    private void CheckMerges()
    {
        var seen = new HashSet<string>(Merges.Length, StringComparer.Ordinal);
        for (int rank = 0; rank < Merges.Length; rank++)
        {
            string merge = Merges[rank];
            int blank = merge.IndexOf(' ');
            if (blank <= 0 || blank == merge.Length - 1 || merge.IndexOf(' ', blank + 1) >= 0)
                throw _metadata.Invalid(MergesKey, $"merge {rank} is '{merge}', expected two tokens with a blank between them");
            if (!seen.Add(merge))
                throw _metadata.Invalid(MergesKey, $"merge {rank}, '{merge}', occurs twice");
            foreach (string token in (ReadOnlySpan<string>)[merge[..blank], merge[(blank + 1)..], merge.Remove(blank, 1)])
            {
                if (!_ids.TryGetValue(token, out int id) || !IsMergeable(id))
                    throw _metadata.Invalid(
                        MergesKey, $"merge {rank}, '{merge}', needs the token '{token}', which is not in the vocabulary");
            }
        }
    }

    private int? ReadId(string name)
    {
        string key = Prefix + name;
        if (!_metadata.ContainsKey(key))
            return null;
        int id = _metadata.GetInt32(key);
        return id >= 0 && id < Tokens.Length
            ? id
            : throw _metadata.Invalid(key, $"it is {id}, but the vocabulary has {Tokens.Length} tokens");
    }
}
