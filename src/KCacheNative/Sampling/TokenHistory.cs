namespace KCacheNative.Sampling;

/// <summary>The latest tokens of a sequence, and how often each occurs among them.</summary>
internal sealed class TokenHistory(int window, int vocabularySize)
{
    private readonly int[] _ring = new int[window];
    private readonly int[] _counts = new int[vocabularySize];
    private int _next;
    private int _length;

    /// <summary>How often each token occurs, by token id.</summary>
    internal ReadOnlySpan<int> Counts => _counts;

    internal void Add(int token)
    {
        if (_ring.Length == 0)
            return;
        if (_length == _ring.Length)
            _counts[_ring[_next]]--;
        else
            _length++;
        _ring[_next] = token;
        _counts[token]++;
        _next = (_next + 1) % _ring.Length;
    }

    internal void Clear()
    {
        Array.Clear(_counts);
        (_next, _length) = (0, 0);
    }
}
