namespace KCacheNative.Console;

/// <summary>The call cannot be served as it was made; the message says what is wrong with it and what would be right.</summary>
internal sealed class UsageException(string message) : Exception(message);
