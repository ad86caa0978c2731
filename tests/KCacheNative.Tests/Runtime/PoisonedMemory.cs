using KCacheNative.Runtime;

namespace KCacheNative.Tests.Runtime;

/// <summary>
/// Floats with a margin of NaN on both sides: a kernel that reads beyond its input shows NaN, one that writes beyond its output erases it.
/// </summary>
internal sealed class PoisonedMemory : IDisposable
{
    private const int Margin = 64;

    private readonly DeviceBuffer _buffer;
    private readonly int _count;

    internal PoisonedMemory(ComputeContext context, params ReadOnlySpan<int> shape)
    {
        _count = 1;
        foreach (int size in shape)
            _count *= size;
        _buffer = new DeviceBuffer(context, (_count + (2 * Margin)) * sizeof(float));
        _buffer.Span<float>(0, _count + (2 * Margin)).Fill(float.NaN);
        Tensor = _buffer.Tensor(Margin, shape);
    }

    internal Tensor Tensor { get; }

    internal static PoisonedMemory Random(ComputeContext context, Random random, params ReadOnlySpan<int> shape)
    {
        var memory = new PoisonedMemory(context, shape);
        foreach (ref float value in memory.Tensor.Span)
            value = (float)((random.NextDouble() * 2) - 1);
        return memory;
    }

    internal void AssertMarginsUntouched()
    {
        foreach (float value in _buffer.Span<float>(0, Margin))
            Assert.That(value, Is.NaN, "the margin in front was written to");
        foreach (float value in _buffer.Span<float>(Margin + _count, Margin))
            Assert.That(value, Is.NaN, "the margin behind was written to");
    }

    public void Dispose() => _buffer.Dispose();
}
