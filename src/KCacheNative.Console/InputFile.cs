using System.Text;

namespace KCacheNative.Console;

/// <summary>Files that a call names.</summary>
internal static class InputFile
{
    /// <summary>The bytes of a file.</summary>
    /// <exception cref="UsageException">It cannot be read.</exception>
    internal static byte[] ReadBytes(string path)
    {
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new UsageException(File.Exists(path) || Directory.Exists(path)
                ? $"the file '{path}' cannot be read: {e.Message}"
                : $"there is no file '{path}'; check the path.");
        }
    }

    /// <summary>A text file as a whole, without a byte order mark.</summary>
    /// <exception cref="UsageException">It cannot be read or is no UTF-8.</exception>
    internal static string ReadText(string path)
    {
        try
        {
            return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(ReadBytes(path)).TrimStart('\uFEFF');
        }
        catch (DecoderFallbackException)
        {
            throw new UsageException($"'{path}' is not valid UTF-8 text; convert it to UTF-8 first.");
        }
    }
}
