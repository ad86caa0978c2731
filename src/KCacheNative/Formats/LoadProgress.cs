namespace KCacheNative.Formats;

/// <summary>How far the loading of a model file has come.</summary>
/// <param name="DoneBytes">Bytes of the file that have been read.</param>
/// <param name="TotalBytes">Bytes of the whole file.</param>
public readonly record struct LoadProgress(long DoneBytes, long TotalBytes);
