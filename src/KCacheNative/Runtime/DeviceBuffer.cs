using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

/// <summary>Memory that kernels read and write, outside the managed heap.</summary>
public sealed unsafe class DeviceBuffer : IDisposable
{
    private readonly BufferHandle _handle;
    private readonly void* _data;

    /// <summary>Allocates zeroed memory, aligned to 64 bytes.</summary>
    /// <param name="context">Where.</param>
    /// <param name="lengthBytes">Bytes, above 0.</param>
    /// <exception cref="KCacheException">The machine has no memory left for this.</exception>
    public DeviceBuffer(ComputeContext context, long lengthBytes)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(lengthBytes);
        context.ThrowIfDisposed();
        _handle = new BufferHandle(context.Handle, (ulong)lengthBytes);
        _data = NativeMethods.BufferData(_handle.DangerousGetHandle());
        LengthBytes = lengthBytes;
    }

    private DeviceBuffer(ComputeContext context, nint host, long lengthBytes)
    {
        context.ThrowIfDisposed();
        _handle = new BufferHandle(context.Handle, (void*)host, (ulong)lengthBytes);
        _data = NativeMethods.BufferData(_handle.DangerousGetHandle());
        LengthBytes = lengthBytes;
    }

    /// <summary>Bytes of the buffer.</summary>
    public long LengthBytes { get; }

    /// <summary>The address that kernels take.</summary>
    public nint Pointer
    {
        get
        {
            ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
            return (nint)_data;
        }
    }

    /// <summary>Makes host memory (a mapped model file, say) readable by kernels: in place on the CPU, a copy on a GPU.</summary>
    /// <param name="context">Where.</param>
    /// <param name="host">The first byte; must stay valid and unchanged until the buffer is disposed.</param>
    /// <param name="lengthBytes">Bytes, above 0.</param>
    public static DeviceBuffer Wrap(ComputeContext context, nint host, long lengthBytes)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfZero(host);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(lengthBytes);
        return new DeviceBuffer(context, host, lengthBytes);
    }

    /// <summary>Numbers of the buffer as a tensor, without a copy.</summary>
    /// <param name="offset">Index of the first float.</param>
    /// <param name="shape">Rows, then what a row is made of, as in <see cref="Runtime.Tensor"/>.</param>
    /// <exception cref="ArgumentException">The tensor does not fit into the buffer.</exception>
    public Tensor Tensor(long offset, params ReadOnlySpan<int> shape)
    {
        var tensor = new Tensor(Pointer + (nint)(offset * sizeof(float)), shape);
        if (offset < 0 || offset + tensor.Length > LengthBytes / sizeof(float))
            throw new ArgumentException(
                $"a tensor of {tensor.ShapeText} floats at {offset} does not fit into a buffer of {LengthBytes} bytes", nameof(shape));
        return tensor;
    }

    /// <summary>Elements of the buffer in place; host memory on the CPU only.</summary>
    /// <typeparam name="T">The type of an element.</typeparam>
    /// <param name="offset">Index of the first element.</param>
    /// <param name="count">Elements.</param>
    public Span<T> Span<T>(long offset, int count)
        where T : unmanaged
    {
        if (offset < 0 || count < 0 || (offset + count) * sizeof(T) > LengthBytes)
            throw new ArgumentOutOfRangeException(
                nameof(count), $"{count} elements of {sizeof(T)} bytes at {offset} lie outside a buffer of {LengthBytes} bytes");
        return new Span<T>((T*)Pointer + offset, count);
    }

    /// <summary>Copies from the host into the buffer.</summary>
    public void Write(long offsetBytes, ReadOnlySpan<byte> host)
    {
        CheckRange(offsetBytes, host.Length);
        _ = Pointer;
        fixed (byte* source = host)
            NativeMethods.BufferWrite(_handle.DangerousGetHandle(), (ulong)offsetBytes, source, (ulong)host.Length).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>Copies from the buffer to the host.</summary>
    public void Read(long offsetBytes, Span<byte> host)
    {
        CheckRange(offsetBytes, host.Length);
        _ = Pointer;
        fixed (byte* target = host)
            NativeMethods.BufferRead(_handle.DangerousGetHandle(), (ulong)offsetBytes, target, (ulong)host.Length).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>Frees the memory; tensors and spans over it must no longer be in use.</summary>
    public void Dispose() => _handle.Dispose();

    private void CheckRange(long offsetBytes, int count)
    {
        if (offsetBytes < 0 || offsetBytes + count > LengthBytes)
            throw new ArgumentOutOfRangeException(
                nameof(offsetBytes), $"{count} bytes at {offsetBytes} lie outside a buffer of {LengthBytes} bytes");
    }
}
