using KCacheNative.Runtime;

namespace KCacheNative.Models;

/// <summary>
/// A sequence of another cache that takes the keys and values of a prompt as they are computed, so that several policies can go on from a
/// prompt that is run once. Right for policies whose prompts attend exactly over keys and values in 16 bits.
/// </summary>
/// <param name="Cache">A cache of the same model.</param>
/// <param name="Sequence">A sequence of it, as long as the one that is run.</param>
public readonly record struct PromptCopy(KvCache Cache, int Sequence)
{
    internal void Begin(ReadOnlySpan<BatchEntry> entries)
    {
        if (entries is not [{ Kind: EntryKind.Prompt } entry])
            throw new ArgumentException("only a batch of one prompt can be copied", nameof(entries));
        Cache.Begin([new BatchEntry(Sequence, entry.Tokens, EntryKind.Prompt)]);
    }
}
