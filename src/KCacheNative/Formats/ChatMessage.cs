namespace KCacheNative.Formats;

/// <summary>One message of a conversation.</summary>
/// <param name="Role">Who speaks: "system", "user", "assistant", or another name of letters, digits, '_' and '-'.</param>
/// <param name="Content">What is said; control tokens in it are plain text.</param>
public sealed record ChatMessage(string Role, string Content);
