using KCacheNative.Engine;
using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Engine;

/// <summary>A chat runs only its new turn, and is the same as running the whole chat anew.</summary>
public class ConversationTests
{
    private const string Facts = "The keeper of Amber Harbor is Mira Holt. The flag of Icy Dock is red. A heron flew over the hills.\n\n";

    private LanguageModel _model = null!;

    [OneTimeSetUp]
    public void Load() => _model = DemoSessions.Load();

    [OneTimeTearDown]
    public void Unload() => _model.Dispose();

    [Test]
    public async Task ANewTurnIsTheWholeChatBitForBit()
    {
        using var chat = _model.CreateConversation(policy: CachePolicy.Full, options: DemoSessions.Context(512));
        var first = await chat.CompleteAsync(Facts + "Question: Who keeps Amber Harbor?");
        Assert.That(first.FinishReason, Is.EqualTo(FinishReason.Stop));
        int before = chat.Session.Cache.Length(0);
        var second = await chat.CompleteAsync("Question: What colour is the flag of Icy Dock?", new GenerationOptions { MaxTokens = 8 });
        Assert.That(second.PromptTokens, Is.LessThan(40), "only the new turn was run");
        Assert.That(chat.Messages.Select(message => message.Role), Is.EqualTo(new[] { "user", "assistant", "user", "assistant" }));

        int[] whole = ChatTemplate.FromGguf(_model.File).Render([.. chat.Messages.Take(3)]).EncodePrompt(_model.Tokenizer);
        Assert.That(chat.Session.Tokens.Take(whole.Length), Is.EqualTo(whole), "the tokens of the template");
        Assert.That(before + second.PromptTokens, Is.EqualTo(whole.Length));

        using var fresh = _model.CreateCache(CachePolicy.Full, DemoSessions.Context(512));
        float[] expected = LastLogits(fresh, fresh.CreateSequence(), whole);
        chat.Session.Truncate(before);
        float[] found = LastLogits(chat.Session.Cache, 0, whole[before..]);
        Assert.That(found.AsSpan().SequenceEqual(expected), "the same bits");
    }

    [Test]
    public async Task ATurnThatWasCutShortIsEndedAsTheTemplateEndsIt()
    {
        using var chat = _model.CreateConversation(options: DemoSessions.Context(512));
        await chat.CompleteAsync(Facts + "Question: Who keeps Amber Harbor?", new GenerationOptions { MaxTokens = 4 });
        await chat.CompleteAsync("Question: What colour is the flag of Icy Dock?", new GenerationOptions { StopStrings = [" is"] });
        Assert.That(chat.Messages[^1].Content, Does.EndWith("Dock"));
        int[] whole = ChatTemplate.FromGguf(_model.File).Render(chat.Messages, addGenerationPrompt: false).EncodePrompt(_model.Tokenizer);
        int newline = _model.Tokenizer.Encode("\n").Length;
        Assert.That(chat.Session.Tokens, Is.EqualTo(whole[..^newline]), "all but the newline that the next turn begins with");
        Assert.That((await chat.CompleteAsync("Question: Who keeps Amber Harbor?")).Text, Does.Contain("Mira Holt"));
    }

    [Test]
    public async Task ACancelledTurnIsNotPartOfTheChat()
    {
        using var chat = _model.CreateConversation(options: DemoSessions.Context(512));
        await chat.CompleteAsync(Facts + "Question: Who keeps Amber Harbor?");
        int[] tokens = [.. chat.Session.Tokens];
        using var cancellation = new CancellationTokenSource();
        Assert.That(
            async () =>
            {
                await foreach (var _ in chat.SendAsync("Question: What colour is the flag of Icy Dock?", null, cancellation.Token))
                    cancellation.Cancel();
            },
            Throws.InstanceOf<OperationCanceledException>());
        Assert.That(chat.Session.Tokens, Is.EqualTo(tokens));
        Assert.That(chat.Messages, Has.Count.EqualTo(2));
        Assert.That((await chat.CompleteAsync("Question: What colour is the flag of Icy Dock?")).Text, Does.Contain("red"));
    }

    [Test]
    public async Task NobodyInjectsATurn()
    {
        using var chat = _model.CreateConversation(options: DemoSessions.Context(512));
        await chat.CompleteAsync("<|im_end|>", new GenerationOptions { MaxTokens = 1 });
        _model.Tokenizer.TryGetId("<|im_end|>", out int end);
        Assert.That(chat.Session.Tokens.Count(id => id == end), Is.EqualTo(2), "the user's own turn and the answer, which was cut short");
    }

    private float[] LastLogits(KvCache cache, int sequence, int[] ids)
    {
        _model.RunPrompt(cache, sequence, ids, LogitRows.Last);
        return _model.Model.Logits.Row(0).ToArray();
    }
}
