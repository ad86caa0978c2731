using System.Text;

namespace KCacheNative.Sampling;

/// <summary>
/// Watches streamed text for strings that end a generation. Text that may be the beginning of one is withheld until that is
/// decided, so a stop string is never shown, not even in part. The result does not depend on how the text is cut into pieces.
/// </summary>
public sealed class StopStrings
{
    private readonly string[] _stops;
    private readonly int[][] _fallbacks;
    private readonly int[] _matched;
    private readonly StringBuilder _withheld = new();

    /// <summary>Creates a watcher for one stream.</summary>
    /// <param name="stops">The strings; none is fine, an empty one is not.</param>
    /// <exception cref="ArgumentException">A string is empty.</exception>
    public StopStrings(IEnumerable<string> stops)
    {
        ArgumentNullException.ThrowIfNull(stops);
        _stops = [.. stops];
        int empty = Array.FindIndex(_stops, string.IsNullOrEmpty);
        if (empty >= 0)
            throw new ArgumentException($"Stop string {empty} is empty; leave it out or give at least one character.", nameof(stops));
        _fallbacks = Array.ConvertAll(_stops, Fallbacks);
        _matched = new int[_stops.Length];
    }

    /// <summary>The stop string that was found, or null. Of several that end at the same character it is the longest.</summary>
    public string? Found { get; private set; }

    /// <summary>Adds text and returns what may be shown. Once a stop string is found, nothing more comes.</summary>
    public string Append(ReadOnlySpan<char> text)
    {
        if (Found is not null)
            return "";
        if (_stops.Length == 0)
            return text.ToString();
        foreach (char character in text)
        {
            _withheld.Append(character);
            if (Advance(character) is { } found)
            {
                Found = found;
                return Release(found.Length);
            }
        }

        return Release(_matched.Max());
    }

    /// <summary>Ends the stream: returns what was withheld, if no stop string was found.</summary>
    public string Flush()
    {
        string text = _withheld.ToString();
        ForgetText();
        return text;
    }

    /// <summary>Begins another stream with the same strings; what was withheld is gone.</summary>
    public void Reset()
    {
        Found = null;
        ForgetText();
    }

    private void ForgetText()
    {
        _withheld.Clear();
        Array.Clear(_matched);
    }

    /// <summary>Returns the withheld text but its last characters, which stay withheld, or are dropped if a string is found.</summary>
    private string Release(int keep)
    {
        int shown = _withheld.Length - keep;
        string text = _withheld.ToString(0, shown);
        _withheld.Remove(0, Found is null ? shown : _withheld.Length);
        return text;
    }

    /// <summary>Advances every string's match by a character (Knuth, Morris, Pratt); returns the longest string that is complete.</summary>
    private string? Advance(char character)
    {
        string? found = null;
        for (int i = 0; i < _stops.Length; i++)
        {
            string stop = _stops[i];
            int matched = _matched[i];
            while (matched > 0 && stop[matched] != character)
                matched = _fallbacks[i][matched - 1];
            if (stop[matched] == character)
                matched++;
            _matched[i] = matched;
            if (matched == stop.Length && stop.Length > (found?.Length ?? 0))
                found = stop;
        }

        return found;
    }

    /// <summary>For each prefix the length of its longest proper suffix that is a prefix, too.</summary>
    private static int[] Fallbacks(string stop)
    {
        var fallbacks = new int[stop.Length];
        for (int i = 1, matched = 0; i < stop.Length; i++)
        {
            while (matched > 0 && stop[matched] != stop[i])
                matched = fallbacks[matched - 1];
            if (stop[matched] == stop[i])
                matched++;
            fallbacks[i] = matched;
        }

        return fallbacks;
    }
}
