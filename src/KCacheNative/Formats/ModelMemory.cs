using System.Buffers;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;

namespace KCacheNative.Formats;

/// <summary>
/// The bytes of a model file at a fixed address: a mapped file, pinned or borrowed memory, or an aligned copy. There is no finalizer
/// on purpose: kernels read through bare pointers that the garbage collector does not see, so only <see cref="Dispose"/> may free.
/// </summary>
internal sealed unsafe class ModelMemory : IDisposable
{
    /// <summary>Alignment of the first byte: a cache line, and as much as any vector load wants.</summary>
    internal const int Alignment = 64;

    private const int CopyChunkBytes = 1 << 20;

    private MemoryMappedFile? _map;
    private MemoryMappedViewAccessor? _view;
    private MemoryHandle _pin;
    private void* _copy;
    private bool _disposed;

    private ModelMemory(string name, byte* pointer, long length)
    {
        Name = name;
        Pointer = pointer;
        Length = length;
    }

    internal string Name { get; }

    internal byte* Pointer { get; private set; }

    internal long Length { get; }

    internal bool IsDisposed => _disposed;

    internal static ModelMemory MapFile(string path)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        MemoryMappedFile? map = null;
        MemoryMappedViewAccessor? view = null;
        try
        {
            var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, 1);
            long length;
            try
            {
                length = stream.CanSeek ? stream.Length : 0;
                if (length == 0)
                    throw new ModelFormatException(path, "file", "it is empty, or not a regular file");
                map = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, false);
            }
            catch
            {
                stream.Dispose();
                throw;
            }

            view = map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
            byte* pointer = null;
            view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
            return new ModelMemory(path, pointer + view.PointerOffset, length) { _map = map, _view = view };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException)
        {
            view?.Dispose();
            map?.Dispose();
            var reason = e is FileNotFoundException or DirectoryNotFoundException ? "there is no such file"
                : Directory.Exists(path) ? "it is a directory" : e.Message.TrimEnd('.');
            throw new KCacheException(
                $"{ModelFormatException.Printable(path)}: cannot open: {reason}; give the path of a model file that may be read.", e);
        }
    }

    /// <summary>Memory that stays the caller's and outlives this object; copied if it does not lie on <see cref="Alignment"/>.</summary>
    internal static ModelMemory Borrow(string name, nint pointer, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        if (length > 0)
            ArgumentOutOfRangeException.ThrowIfZero(pointer);
        return pointer % Alignment == 0
            ? new ModelMemory(name, (byte*)pointer, length)
            : Copy(name, new UnmanagedMemoryStream((byte*)pointer, length));
    }

    internal static ModelMemory Pin(string name, ReadOnlyMemory<byte> bytes)
    {
        var pin = bytes.Pin();
        if ((nint)pin.Pointer % Alignment == 0)
            return new ModelMemory(name, (byte*)pin.Pointer, bytes.Length) { _pin = pin };
        using (pin)
            return Copy(name, new UnmanagedMemoryStream((byte*)pin.Pointer, bytes.Length));
    }

    /// <summary>Reads a seekable stream from its position to its end.</summary>
    internal static ModelMemory Copy(string name, Stream stream)
    {
        long length = stream.Length - stream.Position;
        var copy = (byte*)NativeMemory.AlignedAlloc((nuint)Math.Max(length, 1), Alignment);
        try
        {
            for (long at = 0; at < length;)
            {
                int chunk = (int)Math.Min(length - at, CopyChunkBytes);
                stream.ReadExactly(new Span<byte>(copy + at, chunk));
                at += chunk;
            }
        }
        catch
        {
            NativeMemory.AlignedFree(copy);
            throw;
        }

        return new ModelMemory(name, copy, length) { _copy = copy };
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        if (_view is not null)
        {
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _map!.Dispose();
        }

        _pin.Dispose();
        if (_copy != null)
            NativeMemory.AlignedFree(_copy);
        _copy = null;
        Pointer = null;
    }
}
