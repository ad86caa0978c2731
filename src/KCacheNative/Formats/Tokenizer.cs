using System.Text;
using Microsoft.ML.Tokenizers;

namespace KCacheNative.Formats;

/// <summary>
/// The tokenizer of a model file: byte-level BPE with the pre-tokenizers gpt-2 and smollm. Safe for concurrent use.
/// A byte that the vocabulary has no token for is dropped, as the tokenizers that models are trained with do.
/// </summary>
public sealed class Tokenizer
{
    private readonly TokenizerVocabulary _vocabulary;
    private readonly BpeTokenizer _bpe;
    private readonly TokenizerSpecialTokens _userDefined;
    private readonly TokenizerSpecialTokens _special;
    private readonly byte[] _bytes;
    private readonly int[] _byteStarts;

    private Tokenizer(TokenizerVocabulary vocabulary)
    {
        _vocabulary = vocabulary;
        var tokens = vocabulary.Tokens;
        _bpe = BpeTokenizer.Create(new BpeOptions(
            Enumerable.Range(0, tokens.Length).Where(vocabulary.IsMergeable).Select(id => KeyValuePair.Create(tokens[id], id)))
        {
            Merges = vocabulary.Merges,
            PreTokenizer = vocabulary.PreTokenizer,
            ByteLevel = true,
        });
        _userDefined = new TokenizerSpecialTokens(TokensOf(TokenKind.UserDefined));
        _special = new TokenizerSpecialTokens(TokensOf(TokenKind.UserDefined).Concat(TokensOf(TokenKind.Control)));

        byte[][] bytes = Enumerable.Range(0, tokens.Length).Select(vocabulary.BytesOf).ToArray();
        _byteStarts = new int[tokens.Length + 1];
        for (int id = 0; id < tokens.Length; id++)
            _byteStarts[id + 1] = _byteStarts[id] + bytes[id].Length;
        _bytes = bytes.SelectMany(b => b).ToArray();
        LongestTokenBytes = bytes.Max(b => b.Length);
    }

    /// <summary>How many tokens there are; ids run from 0 to one less.</summary>
    public int VocabularySize => _vocabulary.Tokens.Length;

    /// <summary>The token that begins a text, if the model has one.</summary>
    public int? BosId => _vocabulary.BosId;

    /// <summary>The token that ends a text, if the model has one.</summary>
    public int? EosId => _vocabulary.EosId;

    /// <summary>The token that ends a turn, if the model names one apart from <see cref="EosId"/>.</summary>
    public int? EotId => _vocabulary.EotId;

    /// <summary>Whether a prompt begins with <see cref="BosId"/> (tokenizer.ggml.add_bos_token).</summary>
    public bool AddsBos => _vocabulary.AddsBos;

    internal int LongestTokenBytes { get; }

    /// <summary>Builds the tokenizer from the metadata of a file.</summary>
    /// <exception cref="ModelFormatException">A key is missing, contradicts another, or asks for what is not supported.</exception>
    public static Tokenizer FromGguf(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return new Tokenizer(new TokenizerVocabulary(file));
    }

    /// <summary>Text to token ids, without a beginning token. Lone surrogates count as U+FFFD.</summary>
    /// <param name="text">Any text.</param>
    /// <param name="recognizeControl">
    /// Whether control tokens spelled out in the text become those tokens. Leave it false for what users write: nobody then forges a turn.
    /// </param>
    public int[] Encode(string text, bool recognizeControl = false)
    {
        ArgumentNullException.ThrowIfNull(text);
        var ids = new List<int>(text.Length / 3 + 1);
        EncodeInto(text, recognizeControl, ids);
        return [.. ids];
    }

    /// <summary>A whole prompt: as <see cref="Encode"/>, with the beginning token in front where the model asks for one.</summary>
    /// <param name="text">Any text.</param>
    /// <param name="recognizeControl">As in <see cref="Encode"/>.</param>
    public int[] EncodePrompt(string text, bool recognizeControl = false)
    {
        ArgumentNullException.ThrowIfNull(text);
        var ids = new List<int>(text.Length / 3 + 2);
        if (AddsBos)
            ids.Add(BosId!.Value);
        EncodeInto(text, recognizeControl, ids);
        return [.. ids];
    }

    /// <summary>The text of token ids, each incomplete or invalid UTF-8 sequence replaced by U+FFFD.</summary>
    /// <param name="ids">Token ids.</param>
    /// <param name="showControl">Whether control tokens appear as their text or not at all.</param>
    /// <exception cref="ArgumentOutOfRangeException">An id is not in the vocabulary.</exception>
    public string Decode(ReadOnlySpan<int> ids, bool showControl = false)
    {
        var decoder = CreateDecoder(showControl);
        var text = new StringBuilder();
        foreach (int id in ids)
            text.Append(decoder.Append(id));
        return text.Append(decoder.Flush()).ToString();
    }

    /// <summary>A decoder for one stream of tokens.</summary>
    /// <param name="showControl">Whether control tokens appear as their text or not at all.</param>
    public TokenDecoder CreateDecoder(bool showControl = false) => new(this, showControl);

    /// <summary>The bytes that a token stands for: part of a UTF-8 text, not always whole characters.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is not in the vocabulary.</exception>
    public ReadOnlySpan<byte> TokenBytes(int id)
    {
        CheckId(id);
        return _bytes.AsSpan(_byteStarts[id].._byteStarts[id + 1]);
    }

    /// <summary>The token as the vocabulary spells it.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is not in the vocabulary.</exception>
    public string TokenText(int id)
    {
        CheckId(id);
        return _vocabulary.Tokens[id];
    }

    /// <summary>What a token is for.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is not in the vocabulary.</exception>
    public TokenKind KindOf(int id)
    {
        CheckId(id);
        return _vocabulary.Kinds[id];
    }

    /// <summary>The id of a token as the vocabulary spells it.</summary>
    public bool TryGetId(string token, out int id) => _vocabulary.TryGetId(token, out id);

    /// <summary>Whether generation ends with this token: the end of the text, of the turn or of the message.</summary>
    public bool IsEndOfGeneration(int id) => id == _vocabulary.EosId || id == _vocabulary.EotId || id == _vocabulary.EomId;

    internal void EncodeInto(string text, bool recognizeControl, List<int> ids)
    {
        var special = recognizeControl ? _special : _userDefined;
        string rest = ReplaceLoneSurrogates(text);
        int at = 0;
        while (special.TryFind(rest.AsSpan(at), out int start, out int length, out int id))
        {
            EncodePlain(rest.Substring(at, start), ids);
            ids.Add(id);
            at += start + length;
        }

        EncodePlain(at == 0 ? rest : rest[at..], ids);
    }

    private void EncodePlain(string text, List<int> ids)
    {
        if (text.Length > 0)
            ids.AddRange(_bpe.EncodeToIds(text));
    }

    private static string ReplaceLoneSurrogates(string text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            if (!char.IsSurrogate(text[i]))
                continue;
            if (!char.IsSurrogatePair(text, i))
                return Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text));
            i++;
        }

        return text;
    }

    private IEnumerable<(string Text, int Id)> TokensOf(TokenKind kind) =>
        _vocabulary.Tokens.Select((token, id) => (token, id)).Where(entry => _vocabulary.Kinds[entry.id] == kind);

    private void CheckId(int id)
    {
        if (id < 0 || id >= VocabularySize)
            throw new ArgumentOutOfRangeException(nameof(id), id,
                $"The token id {id} is not in the vocabulary of {VocabularySize} tokens.");
    }
}
