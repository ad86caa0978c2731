using System.Numerics;

namespace KCacheNative.Sampling;

/// <summary>
/// The tokens that may still be chosen. Each is one number whose order is "larger logit first, of equals the lower id", so that selecting
/// and sorting are those of plain integers: no ties, no comparer, no allocation.
/// </summary>
internal sealed class CandidateList(int vocabularySize)
{
    private const int SmallRange = 32;
    private const int FirstSortedChunk = 64;

    private readonly ulong[] _keys = new ulong[vocabularySize];

    internal int Count { get; private set; }

    /// <summary>The token at a position; positions are in order only as far as a Keep method has sorted them.</summary>
    internal int this[int position] => (int)(uint)_keys[position];

    /// <summary>Starts with all tokens whose logit is not negative infinity, in ascending order of their ids.</summary>
    internal void Fill(ReadOnlySpan<float> logits)
    {
        Count = 0;
        for (int token = 0; token < logits.Length; token++)
        {
            if (!float.IsNegativeInfinity(logits[token]))
                _keys[Count++] = Key(logits[token], token);
        }
    }

    /// <summary>Keeps the n tokens of the largest logits, in order.</summary>
    internal void KeepLargest(int n)
    {
        if (n >= Count)
            return;
        SortFirst(0, n);
        Count = n;
    }

    /// <summary>Keeps, in order, the fewest tokens of the largest logits whose probabilities reach a sum.</summary>
    /// <param name="logits">The logits by token id.</param>
    /// <param name="largest">The largest of them.</param>
    /// <param name="sum">The sum to reach, above 0; the probabilities of all candidates add up to 1.</param>
    internal void KeepProbable(ReadOnlySpan<float> logits, float largest, float sum)
    {
        double total = 0;
        for (int i = 0; i < Count; i++)
            total += Math.Exp((double)logits[this[i]] - largest);
        double reached = 0;
        int chunk = FirstSortedChunk;
        for (int sorted = 0; sorted < Count; chunk *= 4)
        {
            int end = Math.Min(Count, sorted + Math.Min(chunk, Count));
            SortFirst(sorted, end - sorted);
            for (; sorted < end; sorted++)
            {
                reached += Math.Exp((double)logits[this[sorted]] - largest);
                if (reached >= sum * total)
                {
                    Count = sorted + 1;
                    return;
                }
            }
        }
    }

    /// <summary>Keeps the tokens whose logit is at least a bound, in the order they have.</summary>
    internal void KeepAtLeast(ReadOnlySpan<float> logits, double bound)
    {
        int kept = 0;
        for (int i = 0; i < Count; i++)
        {
            if (logits[this[i]] >= bound)
                _keys[kept++] = _keys[i];
        }

        Count = kept;
    }

    /// <summary>Brings the next n keys in order to the front of what follows a position.</summary>
    private void SortFirst(int start, int n)
    {
        var rest = _keys.AsSpan(start, Count - start);
        SelectSmallest(rest, n);
        rest[..n].Sort();
    }

    /// <summary>Moves the n smallest keys to the front (quickselect; after too many bad pivots it sorts what is left).</summary>
    private static void SelectSmallest(Span<ulong> keys, int n)
    {
        int rounds = 2 * BitOperations.Log2((uint)keys.Length + 1);
        while (n > 0 && n < keys.Length)
        {
            if (keys.Length <= SmallRange || rounds-- == 0)
            {
                keys.Sort();
                return;
            }

            // All keys differ, so both parts are smaller than the whole.
            ulong pivot = Median(keys[0], keys[keys.Length / 2], keys[^1]);
            int low = 0, high = keys.Length - 1;
            while (low <= high)
            {
                while (keys[low] < pivot)
                    low++;
                while (keys[high] > pivot)
                    high--;
                if (low > high)
                    break;
                (keys[low], keys[high]) = (keys[high], keys[low]);
                low++;
                high--;
            }

            if (n <= high + 1)
            {
                keys = keys[..(high + 1)];
            }
            else
            {
                n -= low;
                keys = keys[low..];
            }
        }
    }

    private static ulong Median(ulong a, ulong b, ulong c) => Math.Max(Math.Min(a, b), Math.Min(Math.Max(a, b), c));

    private static ulong Key(float logit, int token)
    {
        // Adding zero turns -0 into 0. Positive floats ascend as integers; negative ones descend.
        uint bits = BitConverter.SingleToUInt32Bits(logit + 0f);
        uint ascending = (int)bits < 0 ? ~bits : bits | 0x80000000;
        return ((ulong)~ascending << 32) | (uint)token;
    }
}
