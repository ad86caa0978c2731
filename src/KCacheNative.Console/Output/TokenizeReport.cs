namespace KCacheNative.Console.Output;

/// <summary>What `tokenize --json` prints.</summary>
/// <param name="Ids">Token ids, with the beginning token where the model asks for one.</param>
/// <param name="Text">The chat as rendered, for `--messages`.</param>
internal sealed record TokenizeReport(int[] Ids, string? Text);

/// <summary>One message of a chat, as `--messages` reads it.</summary>
/// <param name="Role">"system", "user" or "assistant".</param>
/// <param name="Content">Its text; special tokens in it are plain text.</param>
internal sealed record MessageItem(string? Role, string? Content);
