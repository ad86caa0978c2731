using KCacheNative.Runtime;

namespace KCacheNative.Tests.Runtime;

/// <summary>Shapes, slices and bounds of tensors and buffers.</summary>
public class TensorTests
{
    [Test]
    public void ShapesSlicesAndHeads()
    {
        using var context = new ComputeContext();
        using var buffer = new DeviceBuffer(context, 24 * sizeof(float));
        for (int i = 0; i < 24; i++)
            buffer.Span<float>(0, 24)[i] = i;
        var tensor = buffer.Tensor(0, 2, 3, 4);
        Assert.That((tensor.Rows, tensor.Columns, tensor.Heads, tensor.HeadDimension, tensor.Length), Is.EqualTo((2, 12, 3, 4, 24L)));
        Assert.That(tensor.Row(1)[0], Is.EqualTo(12f));
        Assert.That(tensor.Slice(1, 1).Span.ToArray(), Is.EqualTo(Enumerable.Range(12, 12).Select(i => (float)i)));
        Assert.That(tensor.HeadsAsRows().Rows, Is.EqualTo(6));
        Assert.That(tensor.HeadsAsRows().Row(5)[3], Is.EqualTo(23f));
        Assert.That(tensor.ShapeText, Is.EqualTo("2 x 3 x 4"));
        Assert.That(default(Tensor).IsEmpty);
    }

    [Test]
    public void BoundsAreChecked()
    {
        using var context = new ComputeContext();
        using var buffer = new DeviceBuffer(context, 24 * sizeof(float));
        var tensor = buffer.Tensor(0, 2, 12);
        Assert.That(() => tensor.Slice(1, 2), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => tensor.Slice(-1, 1), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => tensor.Take(0), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => tensor.Row(2).Length, Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => buffer.Tensor(1, 2, 12), Throws.ArgumentException.With.Message.Contains("96 bytes"));
        Assert.That(() => buffer.Tensor(0, 0, 12), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => buffer.Span<int>(20, 5).Length, Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => new DeviceBuffer(context, 0), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void BuffersAreZeroedAndCopyBothWays()
    {
        using var context = new ComputeContext();
        using var buffer = new DeviceBuffer(context, 100);
        Assert.That(buffer.Span<byte>(0, 100).ToArray(), Is.All.Zero);
        buffer.Write(10, [1, 2, 3]);
        var read = new byte[5];
        buffer.Read(9, read);
        Assert.That(read, Is.EqualTo(new byte[] { 0, 1, 2, 3, 0 }));
        Assert.That(() => buffer.Write(98, [1, 2, 3]), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }
}
