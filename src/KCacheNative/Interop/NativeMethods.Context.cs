using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// Chapter 3 (context).
internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library, EntryPoint = "kc_device_count")]
    internal static partial Status DeviceCount(int backend, int* nDevices);

    [LibraryImport(Library, EntryPoint = "kc_device_info_get")]
    internal static partial Status DeviceInfoGet(int backend, int device, KcDeviceInfo* info);

    [LibraryImport(Library, EntryPoint = "kc_context_create")]
    internal static partial Status ContextCreate(KcContextDesc* desc, nint* context);

    [LibraryImport(Library, EntryPoint = "kc_context_destroy")]
    internal static partial Status ContextDestroy(nint context);

    [LibraryImport(Library, EntryPoint = "kc_context_info_get")]
    internal static partial Status ContextInfoGet(nint context, KcContextInfo* info);

    [LibraryImport(Library, EntryPoint = "kc_context_reserve")]
    internal static partial Status ContextReserve(nint context, long nTokens, long nCols);

    [LibraryImport(Library, EntryPoint = "kc_context_stream")]
    internal static partial Status ContextStream(nint context, nint* stream);

    [LibraryImport(Library, EntryPoint = "kc_context_sync")]
    internal static partial Status ContextSync(nint context);
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcDeviceInfo
{
    internal uint Size;
    internal int Backend;
    internal int Device;
    internal fixed byte Isa[16];
    internal fixed byte Name[96];
    internal uint Reserved;
    internal ulong TotalBytes;
    internal ulong FreeBytes;
}

[StructLayout(LayoutKind.Sequential)]
internal struct KcContextDesc
{
    internal uint Size;
    internal int Backend;
    internal int Device;
    internal int NThreads;
    internal int Activations;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcContextInfo
{
    internal uint Size;
    internal int Backend;
    internal int NThreads;
    internal int Activations;
    internal fixed byte Isa[16];
    internal fixed byte Device[96];
    internal ulong LiveBytes;
    internal ulong NLiveObjects;
    internal ulong NAllocations;
}
