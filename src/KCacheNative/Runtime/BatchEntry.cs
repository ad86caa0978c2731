using System.Runtime.InteropServices;

namespace KCacheNative.Runtime;

/// <summary>How the tokens of an entry attend.</summary>
public enum EntryKind
{
    /// <summary>Exactly, as a prompt.</summary>
    Prompt = 0,

    /// <summary>Each token is a decode step under the policy and sees the tokens before it.</summary>
    Decode = 1,
}

/// <summary>New tokens of one sequence in a forward; the layout is that of kc_batch_entry.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct BatchEntry
{
    private readonly int _sequence;
    private readonly int _nTokens;
    private readonly EntryKind _kind;

    /// <summary>Describes new tokens.</summary>
    /// <param name="sequence">The sequence; none stands twice in a forward.</param>
    /// <param name="tokens">How many tokens, at least 1.</param>
    /// <param name="kind">How they attend.</param>
    public BatchEntry(int sequence, int tokens, EntryKind kind)
    {
        _sequence = sequence;
        _nTokens = tokens;
        _kind = kind;
    }

    /// <summary>The sequence.</summary>
    public int Sequence => _sequence;

    /// <summary>How many tokens.</summary>
    public int Tokens => _nTokens;

    /// <summary>How they attend.</summary>
    public EntryKind Kind => _kind;
}
