using KCacheNative.Formats;
using KCacheNative.Runtime;

namespace KCacheNative.Models;

/// <summary>
/// The tensors of a file where kernels can read them: one buffer over the file's mapping, no copy on the CPU. Every tensor that is asked
/// for is checked against the shape that the model expects, and one that nobody asked for means that the model is not what it seems.
/// </summary>
internal sealed class ModelWeights : IDisposable
{
    private readonly GgufFile _file;
    private readonly DeviceBuffer _buffer;
    private readonly long _start;
    private readonly HashSet<string> _used = new(StringComparer.Ordinal);

    internal ModelWeights(ComputeContext context, GgufFile file)
    {
        _file = file;
        if (file.Tensors.Count == 0)
            throw new ModelFormatException(
                file.Name, "tensors", "there are none: it is a vocabulary without weights", "use a file with weights");
        var (start, end) = Extent(file);
        _start = start;
        var first = file.Tensors.First(tensor => tensor.FileOffset == start);
        _buffer = DeviceBuffer.Wrap(context, first.Pointer, end - start);
    }

    internal static long Bytes(GgufFile file)
    {
        var (start, end) = Extent(file);
        return end - start;
    }

    internal bool Has(string name) => _file.TryGetTensor(name, out _);

    internal Matrix Matrix(string name, int rows, int columns)
    {
        var tensor = Take(
            name, $"{columns} x {rows}",
            tensor => tensor.Dimensions.Length == 2 && tensor.Dimensions[0] == columns && tensor.Dimensions[1] == rows);
        if (!tensor.TypeInfo.IsComputable)
            throw Defect(
                name, $"its type {tensor.Type} is not computed with", $"use a file with weights of {GgufTensorTypeInfo.ComputableNames}");
        return new Matrix(Address(tensor), tensor.Type, rows, columns);
    }

    internal Tensor Vector(string name, int length)
    {
        var tensor = Take(name, $"{length}", tensor => tensor.ElementCount == length && tensor.Dimensions[0] == length);
        if (tensor.Type != GgufTensorType.F32)
            throw Defect(name, $"its type is {tensor.Type}, expected F32", "convert the model again with norms and biases in F32");
        return new Tensor(Address(tensor), length);
    }

    /// <summary>A vector that only some models have; no tensor where it is absent.</summary>
    internal Tensor OptionalVector(string name, int length) => Has(name) ? Vector(name, length) : default;

    internal void CheckAllUsed()
    {
        foreach (var tensor in _file.Tensors)
        {
            if (_used.Contains(tensor.Name))
                continue;
            throw tensor.Name == "rope_freqs.weight"
                ? Defect(
                    tensor.Name, "rope scaling by frequency factors (llama3) is not supported",
                    "use a model with rope scaling none or linear")
                : Defect(
                    tensor.Name, "the model computes with it, this library does not know how", "use a model of the plain architecture");
        }
    }

    public void Dispose() => _buffer.Dispose();

    private static (long Start, long End) Extent(GgufFile file) =>
        (file.Tensors.Min(tensor => tensor.FileOffset), file.Tensors.Max(tensor => tensor.FileOffset + tensor.LengthBytes));

    private nint Address(GgufTensor tensor) => _buffer.Pointer + (nint)(tensor.FileOffset - _start);

    private GgufTensor Take(string name, string expected, Func<GgufTensor, bool> fits)
    {
        var tensor = _file.GetTensor(name);
        _used.Add(name);
        return fits(tensor)
            ? tensor
            : throw Defect(
                name, $"it is {tensor.DimensionsText}, the metadata of the model asks for {expected}", ModelFormatException.DownloadAgain);
    }

    private ModelFormatException Defect(string name, string defect, string wayOut) => new(_file.Name, $"tensor '{name}'", defect, wayOut);
}
