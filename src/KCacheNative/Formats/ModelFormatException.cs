namespace KCacheNative.Formats;

/// <summary>A model file is damaged, or holds something this library does not read.</summary>
public sealed class ModelFormatException : KCacheException
{
    /// <summary>Creates the exception; the message reads "file: structure: defect; way out".</summary>
    /// <param name="fileName">The file, as the caller named it.</param>
    /// <param name="structure">The part of the file, such as "tensor 3 'output.weight'".</param>
    /// <param name="defect">What is wrong, with the values found and allowed.</param>
    /// <param name="wayOut">What the user can do about it.</param>
    /// <param name="innerException">The failure beneath, if there was one.</param>
    public ModelFormatException(
        string fileName, string structure, string defect, string wayOut = DownloadAgain, Exception? innerException = null)
        : base($"{Printable(fileName)}: {Printable(structure)}: {Printable(defect)}; {wayOut}.", innerException)
    {
        FileName = fileName;
        Structure = structure;
        Defect = defect;
    }

    /// <summary>The file, as the caller named it.</summary>
    public string FileName { get; }

    /// <summary>The part of the file that is at fault.</summary>
    public string Structure { get; }

    /// <summary>What is wrong with it.</summary>
    public string Defect { get; }

    internal const string DownloadAgain = "the file is damaged or incomplete: download or convert it again";

    /// <summary>Text from a file with control characters replaced, so that it cannot break a line or drive a terminal.</summary>
    internal static string Printable(string text)
    {
        const int limit = 400;
        if (text.Length > limit)
            text = text[..limit] + "…";
        return text.Any(char.IsControl) ? string.Concat(text.Select(c => char.IsControl(c) ? '\uFFFD' : c)) : text;
    }
}
