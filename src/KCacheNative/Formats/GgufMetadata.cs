using System.Collections;
using System.Diagnostics.CodeAnalysis;

namespace KCacheNative.Formats;

/// <summary>
/// The metadata of a <see cref="GgufFile"/>, in the order of the file. The typed getters throw a <see cref="ModelFormatException"/> that
/// names the key, what the file holds and what was expected; those with a fallback return it only where the key is absent.
/// </summary>
public sealed class GgufMetadata : IReadOnlyDictionary<string, GgufValue>
{
    private readonly string _fileName;
    private readonly OrderedDictionary<string, GgufValue> _values = new(StringComparer.Ordinal);

    internal GgufMetadata(string fileName) => _fileName = fileName;

    /// <inheritdoc/>
    public int Count => _values.Count;

    /// <inheritdoc/>
    public IEnumerable<string> Keys => _values.Keys;

    /// <inheritdoc/>
    public IEnumerable<GgufValue> Values => _values.Values;

    /// <summary>The value of a key.</summary>
    /// <exception cref="ModelFormatException">The key is absent.</exception>
    public GgufValue this[string key] => _values.TryGetValue(key, out var value)
        ? value
        : throw Invalid(key, "the key is missing", $"use a file that was converted with '{key}'");

    /// <inheritdoc/>
    public bool ContainsKey(string key) => _values.ContainsKey(key);

    /// <inheritdoc/>
    public bool TryGetValue(string key, [MaybeNullWhen(false)] out GgufValue value) => _values.TryGetValue(key, out value);

    /// <inheritdoc/>
    public IEnumerator<KeyValuePair<string, GgufValue>> GetEnumerator() => _values.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>A text.</summary>
    public string GetString(string key) => this[key].TryGetString(out var value) ? value : throw Mismatch(key, "a String");

    /// <summary>A text, or the fallback.</summary>
    [return: NotNullIfNotNull(nameof(fallback))]
    public string? GetString(string key, string? fallback) => ContainsKey(key) ? GetString(key) : fallback;

    /// <summary>An integer of any type that fits.</summary>
    public int GetInt32(string key) => this[key].TryGetInt64(out long value) && value is >= int.MinValue and <= int.MaxValue
        ? (int)value
        : throw Mismatch(key, "an integer of 32 bits");

    /// <summary>An integer of any type that fits, or the fallback.</summary>
    public int GetInt32(string key, int fallback) => ContainsKey(key) ? GetInt32(key) : fallback;

    /// <summary>A floating-point number or an integer.</summary>
    public float GetSingle(string key) => this[key].TryGetDouble(out double value) ? (float)value : throw Mismatch(key, "a number");

    /// <summary>A floating-point number or an integer, or the fallback.</summary>
    public float GetSingle(string key, float fallback) => ContainsKey(key) ? GetSingle(key) : fallback;

    /// <summary>A truth value.</summary>
    public bool GetBoolean(string key) => this[key].TryGetBoolean(out bool value) ? value : throw Mismatch(key, "a Boolean");

    /// <summary>A truth value, or the fallback.</summary>
    public bool GetBoolean(string key, bool fallback) => ContainsKey(key) ? GetBoolean(key) : fallback;

    /// <summary>An array of texts, in place.</summary>
    public ReadOnlySpan<string> GetStrings(string key) =>
        this[key].TryGetStrings(out var values) ? values : throw Mismatch(key, "an array of String");

    /// <summary>An array of integers of any type that fit, as a new array.</summary>
    public int[] GetInt32s(string key) =>
        this[key].TryGetInt32s(out int[] values) ? values : throw Mismatch(key, "an array of integers of 32 bits");

    /// <summary>An array of floating-point numbers, in place.</summary>
    public ReadOnlySpan<float> GetSingles(string key) =>
        this[key].TryGetSingles(out var values) ? values : throw Mismatch(key, "an array of Float32");

    /// <summary>The error for a key whose value cannot be used, for whoever reads the metadata.</summary>
    /// <param name="key">The key.</param>
    /// <param name="defect">What is wrong with its value.</param>
    /// <param name="wayOut">What the user can do.</param>
    public ModelFormatException Invalid(string key, string defect, string wayOut = ModelFormatException.DownloadAgain) =>
        new(_fileName, $"metadata key '{key}'", defect, wayOut);

    internal bool TryAdd(string key, GgufValue value) => _values.TryAdd(key, value);

    private ModelFormatException Mismatch(string key, string expected)
    {
        var value = _values[key];
        return Invalid(key, $"it holds {value.TypeText} {value}, expected {expected}");
    }
}
