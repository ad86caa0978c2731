using System.Diagnostics.CodeAnalysis;

namespace KCacheNative.Formats;

/// <summary>
/// A GGUF model file, version 2 or 3: metadata, and tensors in place. Opening reads and checks the descriptions, not the weights. Tensor
/// memory is valid until <see cref="Dispose"/>, which must not run while something still reads it. Another program that shortens a
/// mapped file while it is in use can crash this process; replace model files by renaming, not by writing into them.
/// </summary>
public sealed class GgufFile : IDisposable
{
    private const int PageBytes = 4096;
    private const int ReadAheadChunkBytes = 4 << 20;

    private readonly ModelMemory _memory;
    private readonly Dictionary<string, GgufTensor> _byName;
    private readonly GgufContents _contents;

    private GgufFile(ModelMemory memory, IProgress<LoadProgress>? progress)
    {
        _memory = memory;
        try
        {
            _contents = GgufReader.Read(memory, progress);
            _byName = _contents.Tensors.ToDictionary(tensor => tensor.Name, StringComparer.Ordinal);
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    /// <summary>The path or name the file was opened under; messages begin with it.</summary>
    public string Name => _memory.Name;

    /// <summary>Bytes of the whole file.</summary>
    public long LengthBytes => _memory.Length;

    /// <summary>The version of the format: 2 or 3.</summary>
    public int Version => _contents.Version;

    /// <summary>Alignment of tensor data within the file, in bytes.</summary>
    public int Alignment => _contents.Alignment;

    /// <summary>The metadata, in the order of the file.</summary>
    public GgufMetadata Metadata => _contents.Metadata;

    /// <summary>The tensors, in the order of the file.</summary>
    public IReadOnlyList<GgufTensor> Tensors => _contents.Tensors;

    /// <summary>Maps a file into memory and checks it.</summary>
    /// <param name="path">The file.</param>
    /// <param name="progress">Told about the descriptions as they are read.</param>
    /// <exception cref="ModelFormatException">The file is damaged or no GGUF file of version 2 or 3.</exception>
    /// <exception cref="KCacheException">The file cannot be opened.</exception>
    public static GgufFile Open(string path, IProgress<LoadProgress>? progress = null) => new(ModelMemory.MapFile(path), progress);

    /// <summary>Reads a file that lies in memory; the memory is pinned, or copied where it is not aligned to 64 bytes.</summary>
    /// <param name="bytes">The whole file.</param>
    /// <param name="name">What messages call it.</param>
    /// <exception cref="ModelFormatException">The bytes are damaged or no GGUF file of version 2 or 3.</exception>
    public static GgufFile FromMemory(ReadOnlyMemory<byte> bytes, string name = "memory") => new(ModelMemory.Pin(name, bytes), null);

    /// <summary>Reads a file that lies in unmanaged memory, which must outlive this object; copied if not aligned to 64 bytes.</summary>
    /// <param name="pointer">The first byte.</param>
    /// <param name="lengthBytes">Bytes of the whole file.</param>
    /// <param name="name">What messages call it.</param>
    /// <exception cref="ModelFormatException">The bytes are damaged or no GGUF file of version 2 or 3.</exception>
    public static GgufFile FromMemory(nint pointer, long lengthBytes, string name = "memory") =>
        new(ModelMemory.Borrow(name, pointer, lengthBytes), null);

    /// <summary>Copies a seekable stream, such as an embedded resource, from its position to its end and reads it.</summary>
    /// <param name="stream">The file; may be disposed afterwards.</param>
    /// <param name="name">What messages call it.</param>
    /// <exception cref="ModelFormatException">The bytes are damaged or no GGUF file of version 2 or 3.</exception>
    public static GgufFile FromStream(Stream stream, string name) => new(ModelMemory.Copy(name, stream), null);

    /// <summary>Looks a tensor up.</summary>
    public bool TryGetTensor(string name, [NotNullWhen(true)] out GgufTensor? tensor) => _byName.TryGetValue(name, out tensor);

    /// <summary>Looks up a tensor that must exist.</summary>
    /// <exception cref="ModelFormatException">There is no tensor of this name.</exception>
    public GgufTensor GetTensor(string name) => TryGetTensor(name, out var tensor)
        ? tensor
        : throw new ModelFormatException(
            Name, $"tensor '{name}'", $"it is missing among the {Tensors.Count} tensors of the file",
            "use a complete file of a supported architecture");

    /// <summary>
    /// Touches every page, so that a mapped file is read from the disk now, in order and with progress, not piecemeal by the first tokens.
    /// </summary>
    /// <param name="progress">Told every few megabytes.</param>
    /// <param name="cancellationToken">Stops the reading; the file stays usable.</param>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public unsafe void ReadAhead(IProgress<LoadProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_memory.IsDisposed, this);
        for (long at = 0; at < LengthBytes;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            long end = Math.Min(at + ReadAheadChunkBytes, LengthBytes);
            for (; at < end; at += PageBytes)
                _ = Volatile.Read(ref _memory.Pointer[at]);
            at = end;
            progress?.Report(new LoadProgress(at, LengthBytes));
        }
    }

    /// <summary>Unmaps or frees the memory; tensors of this file must no longer be in use.</summary>
    public void Dispose() => _memory.Dispose();
}
