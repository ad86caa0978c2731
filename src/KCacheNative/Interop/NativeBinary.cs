using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

/// <summary>
/// Reads what machine a shared library was built for (ELF, PE, Mach-O), because the loaders of most systems only say that such a file
/// cannot be opened.
/// </summary>
internal static class NativeBinary
{
    /// <summary>A sentence if the file is no shared library for this process; null if it is one, or cannot be told.</summary>
    internal static string? WrongArchitecture(string file)
    {
        if (!File.Exists(file))
            return null;
        Span<byte> head = stackalloc byte[1024];
        int length;
        try
        {
            using var stream = File.OpenRead(file);
            length = stream.ReadAtLeast(head, head.Length, throwOnEndOfStream: false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"it cannot be read: {e.Message.TrimEnd('.')}";
        }

        var (format, machine) = Describe(head[..length]);
        string expected = OperatingSystem.IsWindows() ? "PE" : OperatingSystem.IsMacOS() ? "Mach-O" : "ELF";
        if (format is null)
            return "it is no shared library";
        string process = RuntimeInformation.ProcessArchitecture.ToString();
        return format == expected && machine == process
            ? null
            : $"it is built for {machine} ({format}), this process is {process} ({expected})";
    }

    private static (string? Format, string? Machine) Describe(ReadOnlySpan<byte> head)
    {
        if (head.Length < 64)
            return (null, null);
        if (head.StartsWith("\x7f"u8) && head[1..4].SequenceEqual("ELF"u8))
        {
            ushort machine = BinaryPrimitives.ReadUInt16LittleEndian(head[18..]);
            return ("ELF", machine switch { 3 => "X86", 40 => "Arm", 62 => "X64", 183 => "Arm64", _ => $"machine {machine}" });
        }

        if (head.StartsWith("MZ"u8))
        {
            uint at = BinaryPrimitives.ReadUInt32LittleEndian(head[60..]);
            if (at > head.Length - 6 || !head[(int)at..].StartsWith("PE\0\0"u8))
                return (null, null);
            ushort machine = BinaryPrimitives.ReadUInt16LittleEndian(head[((int)at + 4)..]);
            return ("PE", machine switch { 0x14c => "X86", 0x8664 => "X64", 0xaa64 => "Arm64", _ => $"machine {machine}" });
        }

        if (BinaryPrimitives.ReadUInt32LittleEndian(head) == 0xfeedfacf)
        {
            uint machine = BinaryPrimitives.ReadUInt32LittleEndian(head[4..]);
            return ("Mach-O", machine switch { 0x01000007 => "X64", 0x0100000c => "Arm64", _ => $"machine {machine}" });
        }

        return (null, null);
    }
}
