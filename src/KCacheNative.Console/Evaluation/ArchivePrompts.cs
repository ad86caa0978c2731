using KCacheNative.Formats;

namespace KCacheNative.Console.Evaluation;

/// <summary>The prompts of an archive's questions as token ids: what they share, and what differs.</summary>
internal sealed class ArchivePrompts
{
    internal ArchivePrompts(Archive archive, Tokenizer tokenizer)
    {
        var (before, after) = archive.PromptParts();
        int[][] prompts = Array.ConvertAll(archive.Set.Questions, q => tokenizer.EncodePrompt(before + q.Question + after));
        // the border between text and question may lie within a token, so it is looked for in the ids
        int shared = prompts.Min(p => p.Length - 1);
        foreach (int[] prompt in prompts)
            shared = Math.Min(shared, prompt.AsSpan().CommonPrefixLength(prompts[0]));
        Archive = archive;
        Shared = prompts[0].AsMemory(0, shared);
        Rests = Array.ConvertAll(prompts, p => (ReadOnlyMemory<int>)p.AsMemory(shared));
        Longest = prompts.Max(p => p.Length);
    }

    internal Archive Archive { get; }

    /// <summary>The tokens that all prompts begin with.</summary>
    internal ReadOnlyMemory<int> Shared { get; }

    /// <summary>The rest of each prompt, at least one token.</summary>
    internal ReadOnlyMemory<int>[] Rests { get; }

    /// <summary>Tokens of the longest prompt.</summary>
    internal int Longest { get; }

    /// <summary>Prompt tokens that asking all questions runs.</summary>
    internal int Tokens => Shared.Length + Rests.Sum(r => r.Length);
}
