using System.Runtime.InteropServices;
using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

/// <summary>A device that a <see cref="ComputeContext"/> can be made on.</summary>
/// <param name="Backend">What computes there.</param>
/// <param name="Number">Its number: <see cref="ContextOptions.Device"/>.</param>
/// <param name="Name">The device's own name.</param>
/// <param name="InstructionSet">scalar, avx2 or avx512; of a GPU its compute capability, such as sm_90.</param>
/// <param name="MemoryBytes">Bytes of its memory, the backend's fast home; 0: not known.</param>
/// <param name="FreeMemoryBytes">How many of them are free now.</param>
public sealed record DeviceInfo(
    Backend Backend, int Number, string Name, string InstructionSet, long MemoryBytes, long FreeMemoryBytes)
{
    /// <summary>The devices of a backend that work on this machine, by their numbers from 0.</summary>
    /// <param name="backend"><see cref="Backend.Cpu"/> or <see cref="Backend.Cuda"/>.</param>
    /// <exception cref="KCacheException">
    /// There is none (<see cref="Status.Unsupported"/>), and the message says why: no such backend in this build of the native library, no
    /// driver, no GPU. Or the native library cannot be loaded.
    /// </exception>
    public static unsafe IReadOnlyList<DeviceInfo> List(Backend backend)
    {
        if (backend is not (Backend.Cpu or Backend.Cuda))
            throw new ArgumentOutOfRangeException(nameof(backend), backend, "devices belong to Backend.Cpu or Backend.Cuda");
        _ = NativeLibraryLoader.Handle;
        int count = 0;
        NativeMethods.DeviceCount((int)backend, &count).ThrowIfFailed();
        var devices = new DeviceInfo[count];
        for (int number = 0; number < count; number++)
            devices[number] = Get(backend, number);
        return devices;
    }

    private static unsafe DeviceInfo Get(Backend backend, int number)
    {
        var info = new KcDeviceInfo { Size = (uint)sizeof(KcDeviceInfo) };
        NativeMethods.DeviceInfoGet((int)backend, number, &info).ThrowIfFailed();
        return new DeviceInfo(
            (Backend)info.Backend,
            info.Device,
            Marshal.PtrToStringUTF8((nint)info.Name) ?? "",
            Marshal.PtrToStringUTF8((nint)info.Isa) ?? "",
            checked((long)info.TotalBytes),
            checked((long)info.FreeBytes));
    }
}
