using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Chapters 1 (version) and 2 (status).
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_version")]
    internal static partial byte* Version();

    [LibraryImport(Library, EntryPoint = "kc_abi")]
    internal static partial int AbiOfLibrary();

    [LibraryImport(Library, EntryPoint = "kc_last_message")]
    internal static partial byte* LastMessage();
}
