namespace KCacheNative.Formats;

/// <summary>
/// The letters by which byte-level vocabularies spell bytes: printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and up.
/// </summary>
/// <remarks>Source: GPT-2's encoder.py, bytes_to_unicode.</remarks>
internal static class ByteLevelAlphabet
{
    private static readonly char[] Letters = MakeLetters();
    private static readonly short[] Bytes = MakeBytes();

    /// <summary>The letter of a byte.</summary>
    internal static char Letter(byte value) => Letters[value];

    /// <summary>The byte of a letter; false if the character is no letter of the alphabet.</summary>
    internal static bool TryGetByte(char letter, out byte value)
    {
        short found = letter < Bytes.Length ? Bytes[letter] : (short)-1;
        value = (byte)found;
        return found >= 0;
    }

    private static char[] MakeLetters()
    {
        var letters = new char[256];
        char next = '\u0100';
        for (int value = 0; value < letters.Length; value++)
            letters[value] = value is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or >= 0xAE ? (char)value : next++;
        return letters;
    }

    private static short[] MakeBytes()
    {
        var bytes = new short[Letters.Max() + 1];
        Array.Fill(bytes, (short)-1);
        for (int value = 0; value < Letters.Length; value++)
            bytes[Letters[value]] = (short)value;
        return bytes;
    }
}
