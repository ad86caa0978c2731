using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Chapter 4 (buffers).
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_buffer_create")]
    internal static partial Status BufferCreate(nint context, ulong nBytes, nint* buffer);

    [LibraryImport(Library, EntryPoint = "kc_buffer_wrap")]
    internal static partial Status BufferWrap(nint context, void* host, ulong nBytes, nint* buffer);

    [LibraryImport(Library, EntryPoint = "kc_buffer_data")]
    internal static partial void* BufferData(nint buffer);

    [LibraryImport(Library, EntryPoint = "kc_buffer_write")]
    internal static partial Status BufferWrite(nint buffer, ulong offsetBytes, void* host, ulong nBytes);

    [LibraryImport(Library, EntryPoint = "kc_buffer_read")]
    internal static partial Status BufferRead(nint buffer, ulong offsetBytes, void* host, ulong nBytes);

    [LibraryImport(Library, EntryPoint = "kc_buffer_destroy")]
    internal static partial void BufferDestroy(nint buffer);
}
