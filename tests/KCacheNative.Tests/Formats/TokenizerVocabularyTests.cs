using KCacheNative.Formats;

namespace KCacheNative.Tests.Formats;

/// <summary>Tokenizer metadata that is missing, contradicts itself or asks for what is not supported is refused by key.</summary>
public sealed class TokenizerVocabularyTests
{
    private const string Prefix = "tokenizer.ggml.";

    [TestCase("model")]
    [TestCase("tokens")]
    [TestCase("merges")]
    public void MissingKeys(string name) => AssertRefused(TokenizerFile.Writer(without: Prefix + name), Prefix + name, "missing");

    [Test]
    public void OtherTokenizers() =>
        AssertRefused(TokenizerFile.Writer(without: Prefix + "model").Add(Prefix + "model", "llama"),
            Prefix + "model", "'llama' is not supported", "gpt2");

    [Test]
    public void OtherPreTokenizers() =>
        AssertRefused(TokenizerFile.Writer(pre: "qwen2"), Prefix + "pre", "'qwen2' is not supported", "gpt-2, default, smollm");

    [Test]
    public void WrongTypes()
    {
        AssertRefused(TokenizerFile.Writer(without: Prefix + "tokens").Add(Prefix + "tokens", "text"),
            Prefix + "tokens", "an array of String");
        AssertRefused(TokenizerFile.Writer(without: Prefix + "merges").Add(Prefix + "merges", 1, 2), Prefix + "merges", "Int32[2]");
        AssertRefused(TokenizerFile.Writer(without: Prefix + "token_type").Add(Prefix + "token_type", "a", "b"),
            Prefix + "token_type", "String[2]");
    }

    [Test]
    public void SizesThatDisagree()
    {
        int count = TokenizerFile.Tokens.Length;
        AssertRefused(TokenizerFile.Writer(without: Prefix + "token_type").Add(Prefix + "token_type", 1, 1, 3),
            Prefix + "token_type", $"3 entries for {count}");
        AssertRefused(
            TokenizerFile.Writer().Add("general.architecture", "llama").Add("llama.vocab_size", (uint)count + 1),
            Prefix + "tokens", $"{count} tokens", $"llama.vocab_size is {count + 1}");
        AssertRefused(
            TokenizerFile.Writer().AddTensor("token_embd.weight", GgufTensorType.F32, new byte[4 * 2 * 3], 2, 3),
            Prefix + "tokens", $"{count} tokens", "token_embd.weight has 3 rows");
    }

    [Test]
    public void BrokenTokens()
    {
        AssertRefused(TokenizerFile.Writer(tokens: []), Prefix + "tokens", "empty");
        AssertRefused(TokenizerFile.Writer(tokens: [.. TokenizerFile.Tokens, ""]), Prefix + "tokens", "is empty");
        AssertRefused(TokenizerFile.Writer(tokens: [.. TokenizerFile.Tokens, "hi"]), Prefix + "tokens", "are both 'hi'");
        int[] kinds = TokenizerFile.Kinds(TokenizerFile.Tokens);
        kinds[5] = 7;
        AssertRefused(TokenizerFile.Writer(without: Prefix + "token_type").Add(Prefix + "token_type", kinds),
            Prefix + "token_type", "token 5 is 7");
    }

    [TestCase("hi")]
    [TestCase(" hi")]
    [TestCase("hi ")]
    [TestCase("h i i")]
    [TestCase("")]
    [TestCase(" ")]
    public void MergesOfAnotherShape(string merge) =>
        AssertRefused(TokenizerFile.Writer(merges: [.. TokenizerFile.Merges, merge]), Prefix + "merges", "merge 4", "a blank between");

    [TestCase("q q", "'qq'")]
    [TestCase("hx i", "'hx'")]
    [TestCase("h xi", "'xi'")]
    [TestCase("<|end|> >", "'<|end|>'")]
    public void MergesOfUnknownTokens(string merge, string token) =>
        AssertRefused(TokenizerFile.Writer(merges: [merge]), Prefix + "merges", merge, token, "not in the vocabulary");

    [Test]
    public void MergesThatOccurTwice() =>
        AssertRefused(TokenizerFile.Writer(merges: ["h i", "l l", "h i"]), Prefix + "merges", "merge 2, 'h i', occurs twice");

    [TestCase("bos_token_id")]
    [TestCase("eos_token_id")]
    [TestCase("eot_token_id")]
    [TestCase("eom_token_id")]
    public void IdsOutsideTheVocabulary(string name)
    {
        int count = TokenizerFile.Tokens.Length;
        AssertRefused(TokenizerFile.Writer(without: Prefix + name).Add(Prefix + name, (uint)count),
            Prefix + name, $"{count}, but the vocabulary has {count}");
        AssertRefused(
            TokenizerFile.Writer(without: Prefix + name).Add(Prefix + name, GgufValueType.Int32, BitConverter.GetBytes(-1)),
                Prefix + name, "-1");
    }

    [Test]
    public void ABeginningTokenThatDoesNotExist() => AssertRefused(
        TokenizerFile.Writer(without: Prefix + "bos_token_id").Add(Prefix + "add_bos_token", true),
            Prefix + "add_bos_token", "bos_token_id is missing");

    private static void AssertRefused(GgufWriter writer, params string[] parts)
    {
        using var file = GgufFile.FromMemory(writer.ToArray(), "model.gguf");
        var error = Assert.Throws<ModelFormatException>(() => Tokenizer.FromGguf(file));
        foreach (string part in parts.Append("model.gguf"))
            Assert.That(error!.Message, Does.Contain(part));
    }
}
