using System.Text;
using KCacheNative.Formats;
using KCacheNative.Sampling;

namespace KCacheNative.Engine;

/// <summary>The tokens that are generated behind a prompt: how the next is chosen, what text they make, and when they end.</summary>
internal sealed class Continuation
{
    private readonly Tokenizer _tokenizer;
    private readonly SamplerChain _sampler;
    private readonly TokenDecoder _decoder;
    private readonly StopStrings _stops;
    private readonly StringBuilder _text = new();
    private readonly bool _ignoresEnd;
    private readonly int _most;

    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="text">The tokens before, for the penalties.</param>
    /// <param name="options">How tokens are chosen.</param>
    /// <param name="room">Tokens that fit into the context behind the text.</param>
    internal Continuation(Tokenizer tokenizer, ReadOnlySpan<int> text, GenerationOptions options, int room)
    {
        options.Check();
        _tokenizer = tokenizer;
        _sampler = new SamplerChain(options.Sampling, tokenizer.VocabularySize);
        _sampler.Accept(text);
        _decoder = tokenizer.CreateDecoder();
        _stops = new StopStrings(options.StopStrings);
        _ignoresEnd = options.IgnoreEndOfGeneration;
        _most = Math.Min(options.MaxTokens ?? int.MaxValue, room);
        Ids = new List<int>(Math.Clamp(_most, 0, 4096));
    }

    /// <summary>The tokens, the end token included.</summary>
    internal List<int> Ids { get; }

    /// <summary>Why it ended.</summary>
    internal FinishReason Finish { get; private set; }

    /// <summary>The stop string that ended it; null if none did.</summary>
    internal string? StopString => _stops.Found;

    /// <summary>Whole characters, without control tokens and without the stop string.</summary>
    internal string Text => _text.ToString();

    /// <summary>Chooses the next token; null if there is no room for one.</summary>
    /// <param name="logits">[vocabulary]; rows that only pad it to a round number are no tokens.</param>
    internal GeneratedPiece? Next(ReadOnlySpan<float> logits)
    {
        if (Ids.Count >= _most)
        {
            Finish = FinishReason.Length;
            return null;
        }

        int id = _sampler.Sample(logits[.._tokenizer.VocabularySize]);
        _sampler.Accept(id);
        Ids.Add(id);
        bool ends = !_ignoresEnd && _tokenizer.IsEndOfGeneration(id);
        string text = ends ? "" : _stops.Append(_decoder.Append(id));
        Finish = ends || StopString is not null ? FinishReason.Stop : Ids.Count >= _most ? FinishReason.Length : FinishReason.None;
        if (Finish != FinishReason.None)
            text += _stops.Append(_decoder.Flush()) + _stops.Flush();
        _text.Append(text);
        return new GeneratedPiece(text, id);
    }
}
