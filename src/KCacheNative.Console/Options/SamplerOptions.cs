using System.CommandLine;
using System.Globalization;
using KCacheNative.Engine;
using KCacheNative.Sampling;

namespace KCacheNative.Console.Options;

/// <summary>How tokens are chosen and where generation ends.</summary>
internal sealed class SamplerOptions
{
    private readonly float _defaultTemperature;
    private readonly Option<int?> _maxTokens;
    private readonly Option<float?> _temperature;
    private readonly Option<int?> _topK = OptionFactory.Integer("--top-k", 0, int.MaxValue, "Only the K likeliest tokens; 0 is all (default: 0)", "K");
    private readonly Option<float?> _topP = OptionFactory.Real("--top-p", 1e-6f, 1, "Only the fewest likeliest tokens that reach this probability (default: 1)", "P");
    private readonly Option<float?> _minP = OptionFactory.Real("--min-p", 0, 1, "Only tokens at least P times as likely as the likeliest (default: 0)", "P");
    private readonly Option<float?> _repeatPenalty = OptionFactory.Real("--repeat-penalty", 1e-3f, 1000, "Divides the logits of recent tokens; 1 is off (default: 1)");
    private readonly Option<float?> _frequencyPenalty = OptionFactory.Real("--frequency-penalty", -1000, 1000, "Subtracted for each time a token occurred recently (default: 0)");
    private readonly Option<float?> _presencePenalty = OptionFactory.Real("--presence-penalty", -1000, 1000, "Subtracted once from tokens that occurred recently (default: 0)");
    private readonly Option<int?> _penaltyWindow = OptionFactory.Integer("--penalty-window", 0, SamplingOptions.MaxPenaltyWindow,
        $"Tokens that count as recent (default: {new SamplingOptions().PenaltyWindow})");
    private readonly Option<ulong?> _seed = OptionFactory.Seed("--seed", "Makes sampling repeatable (default: another one each time)");
    private readonly Option<string[]> _stop = OptionFactory.Texts("--stop", "TEXT", "Ends the text where it appears; may be given several times; \\n is a line end");
    private readonly Option<string[]> _logitBias = OptionFactory.Texts("--logit-bias", "ID=X", "Added to the logit of a token, -inf forbids it; may be given several times");
    private readonly Option<bool> _ignoreEnd = OptionFactory.Flag("--ignore-eos", "Go on behind tokens that end the text");

    /// <param name="defaultTokens">Most tokens where -n is not given.</param>
    /// <param name="defaultTemperature">Where --temperature is not given.</param>
    internal SamplerOptions(int defaultTokens, float defaultTemperature)
    {
        DefaultTokens = defaultTokens;
        _defaultTemperature = defaultTemperature;
        _maxTokens = OptionFactory.Integer("--max-tokens", 1, int.MaxValue, $"Most tokens to generate (default: {defaultTokens})", "N", "-n");
        _temperature = OptionFactory.Real("--temperature", 0, 1000,
            string.Create(CultureInfo.InvariantCulture, $"0 takes the likeliest token, more makes others likelier (default: {defaultTemperature})"), "T");
    }

    private int DefaultTokens { get; }

    internal void AddTo(Command command)
    {
        foreach (Option option in new Option[]
                 {
                     _maxTokens, _temperature, _topK, _topP, _minP, _repeatPenalty, _frequencyPenalty, _presencePenalty, _penaltyWindow, _seed, _stop,
                     _logitBias, _ignoreEnd,
                 })
            command.Add(option);
    }

    /// <summary>Most tokens to generate.</summary>
    internal int ReadMaxTokens(ParseResult call) => call.GetValue(_maxTokens) ?? DefaultTokens;

    /// <summary>All of it, checked against the vocabulary.</summary>
    /// <param name="call">The call.</param>
    /// <param name="vocabulary">Tokens of the model.</param>
    internal GenerationOptions Read(ParseResult call, int vocabulary)
    {
        var sampling = new SamplingOptions
        {
            Temperature = call.GetValue(_temperature) ?? _defaultTemperature,
            TopK = call.GetValue(_topK) ?? 0,
            TopP = call.GetValue(_topP) ?? 1,
            MinP = call.GetValue(_minP) ?? 0,
            RepetitionPenalty = call.GetValue(_repeatPenalty) ?? 1,
            FrequencyPenalty = call.GetValue(_frequencyPenalty) ?? 0,
            PresencePenalty = call.GetValue(_presencePenalty) ?? 0,
            PenaltyWindow = call.GetValue(_penaltyWindow) ?? new SamplingOptions().PenaltyWindow,
            Seed = call.GetValue(_seed),
            LogitBias = (call.GetValue(_logitBias) ?? []).Select(text => ReadBias(text, vocabulary)).GroupBy(bias => bias.Id)
                .ToDictionary(group => group.Key, group => group.Last().Bias),
        };
        return new GenerationOptions
        {
            MaxTokens = ReadMaxTokens(call),
            Sampling = sampling,
            StopStrings = Array.ConvertAll(call.GetValue(_stop) ?? [], ReadStop),
            IgnoreEndOfGeneration = call.GetValue(_ignoreEnd),
        };
    }

    private static string ReadStop(string text)
    {
        string unescaped = Unescape(text);
        return unescaped.Length > 0 ? unescaped : throw new UsageException("--stop takes a text of at least one character; leave it out to stop nowhere.");
    }

    /// <summary>Shells make line ends hard to write, so \n, \r, \t and \\ are understood.</summary>
    private static string Unescape(string text)
    {
        var result = new System.Text.StringBuilder(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            char replaced = text[i] == '\\' && i + 1 < text.Length
                ? text[i + 1] switch { 'n' => '\n', 'r' => '\r', 't' => '\t', '\\' => '\\', _ => '\0' }
                : '\0';
            result.Append(replaced == '\0' ? text[i] : replaced);
            if (replaced != '\0')
                i++;
        }

        return result.ToString();
    }

    private static (int Id, float Bias) ReadBias(string text, int vocabulary)
    {
        int split = text.IndexOf('=');
        string number = split < 0 ? "" : text[(split + 1)..].Trim();
        float bias = float.NegativeInfinity;
        if (split < 0
            || !int.TryParse(text.AsSpan(0, split), NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out int id)
            || (number != "-inf" && !(float.TryParse(number, NumberStyles.Float, CultureInfo.InvariantCulture, out bias) && float.IsFinite(bias))))
            throw new UsageException($"--logit-bias takes a token id and a number such as 42=-1.5 or 42=-inf, not '{text}'.");
        return id < vocabulary
            ? (id, bias)
            : throw new UsageException($"--logit-bias {text}: token {id} is not in the model's vocabulary; ids run from 0 to {vocabulary - 1}.");
    }
}
