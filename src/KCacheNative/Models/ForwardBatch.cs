using KCacheNative.Runtime;

namespace KCacheNative.Models;

/// <summary>Behind which tokens of an entry the logits are computed.</summary>
public enum LogitRows
{
    /// <summary>None: a part of a prompt.</summary>
    None,

    /// <summary>The last.</summary>
    Last,

    /// <summary>Each.</summary>
    All,
}

/// <summary>New tokens of one or several sequences for one forward. Made once and reused; filling it allocates nothing.</summary>
public sealed class ForwardBatch
{
    private readonly BatchEntry[] _entries;
    private readonly int[] _ids;
    private readonly int[] _logitRows;
    private int _nEntries;
    private int _nLogitRows;

    /// <summary>Makes room.</summary>
    /// <param name="tokens">Most tokens of a forward.</param>
    /// <param name="entries">Most entries of a forward.</param>
    public ForwardBatch(int tokens, int entries = 1)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(tokens);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(entries);
        _entries = new BatchEntry[entries];
        _ids = new int[tokens];
        _logitRows = new int[tokens];
    }

    /// <summary>Most tokens of a forward.</summary>
    public int Capacity => _ids.Length;

    /// <summary>Tokens so far.</summary>
    public int Tokens { get; private set; }

    /// <summary>The entries so far.</summary>
    public ReadOnlySpan<BatchEntry> Entries => _entries.AsSpan(0, _nEntries);

    /// <summary>Token ids, one entry behind the other.</summary>
    public ReadOnlySpan<int> Ids => _ids.AsSpan(0, Tokens);

    /// <summary>The rows behind which logits are computed, ascending.</summary>
    public ReadOnlySpan<int> RowsOfLogits => _logitRows.AsSpan(0, _nLogitRows);

    /// <summary>Empties the batch.</summary>
    public void Clear() => (_nEntries, Tokens, _nLogitRows) = (0, 0, 0);

    /// <summary>Adds new tokens of a sequence.</summary>
    /// <param name="sequence">The sequence; none stands twice in a forward.</param>
    /// <param name="ids">Token ids, at least one.</param>
    /// <param name="kind">How they attend.</param>
    /// <param name="logits">Behind which of them logits are computed.</param>
    /// <exception cref="ArgumentException">The batch is full.</exception>
    public void Add(int sequence, ReadOnlySpan<int> ids, EntryKind kind, LogitRows logits)
    {
        if (ids.IsEmpty)
            throw new ArgumentException("an entry needs at least one token", nameof(ids));
        if (_nEntries == _entries.Length || ids.Length > _ids.Length - Tokens)
            throw new ArgumentException(
                $"{ids.Length} more tokens do not fit into a batch of {_ids.Length} tokens and {_entries.Length} entries "
                + $"that holds {Tokens} tokens and {_nEntries} entries", nameof(ids));
        ids.CopyTo(_ids.AsSpan(Tokens));
        int first = logits switch
        {
            LogitRows.All => Tokens,
            LogitRows.Last => Tokens + ids.Length - 1,
            _ => Tokens + ids.Length,
        };
        for (int row = first; row < Tokens + ids.Length; row++)
            _logitRows[_nLogitRows++] = row;
        _entries[_nEntries++] = new BatchEntry(sequence, ids.Length, kind);
        Tokens += ids.Length;
    }
}
