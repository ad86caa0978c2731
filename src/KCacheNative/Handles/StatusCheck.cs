using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KCacheNative.Interop;

namespace KCacheNative.Handles;

/// <summary>Turns a native status into an exception.</summary>
internal static class StatusCheck
{
    /// <exception cref="KCacheException">The call failed; the message is the library's own sentence.</exception>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void ThrowIfFailed(this Status status)
    {
        if (status != Status.Ok)
            Throw(status);
    }

    private static unsafe void Throw(Status status)
    {
        string? message = Marshal.PtrToStringUTF8((nint)NativeMethods.LastMessage());
        throw new KCacheException(status, string.IsNullOrEmpty(message) ? $"the native library failed with status {status}" : message);
    }
}
