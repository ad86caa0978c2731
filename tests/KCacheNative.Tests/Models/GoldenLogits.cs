using System.Buffers.Binary;
using System.Text;

namespace KCacheNative.Tests.Models;

/// <summary>The golden logits of the demonstration model: a NumPy file of float32 rows.</summary>
internal static class GoldenLogits
{
    internal static float[][] Read(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        int headerLength = BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(8));
        string header = Encoding.ASCII.GetString(bytes, 10, headerLength);
        Assert.That(header, Does.Contain("'descr': '<f4'").And.Contain("'fortran_order': False"));
        int open = header.IndexOf('(') + 1;
        int[] shape = [.. header[open..header.IndexOf(')')].Split(',', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse)];
        var data = bytes.AsMemory(10 + headerLength);
        return [.. Enumerable.Range(0, shape[0]).Select(row => Enumerable.Range(0, shape[1])
            .Select(column => BinaryPrimitives.ReadSingleLittleEndian(data.Span[(4 * ((row * shape[1]) + column))..])).ToArray())];
    }
}
