using KCacheNative.Runtime;

namespace KCacheNative.Tests.Runtime;

public class DeviceInfoTests
{
    [Test]
    public void TheProcessorIsTheOneDeviceOfItsBackend()
    {
        var device = DeviceInfo.List(Backend.Cpu).Single();
        using var context = new ComputeContext(new ContextOptions { Backend = Backend.Cpu });

        Assert.That(device.Backend, Is.EqualTo(Backend.Cpu));
        Assert.That(device.Number, Is.Zero);
        Assert.That(device.Name, Is.EqualTo(context.Info.Device));
        Assert.That(device.InstructionSet, Is.EqualTo(context.Info.InstructionSet));
        Assert.That(device.FreeMemoryBytes, Is.LessThanOrEqualTo(device.MemoryBytes));
    }

    [Test]
    public void ABackendHasDevicesOrAReason()
    {
        try
        {
            Assert.That(DeviceInfo.List(Backend.Cuda), Is.Not.Empty);
        }
        catch (KCacheException problem)
        {
            Assert.That(problem.Status, Is.EqualTo(Status.Unsupported));
            Assert.That(problem.Message, Does.Contain("but this"));
            Assert.That(
                () => new ComputeContext(new ContextOptions { Backend = Backend.Cuda }),
                Throws.TypeOf<KCacheException>().With.Property(nameof(KCacheException.Status)).EqualTo(Status.Unsupported));
            using var context = new ComputeContext();
            Assert.That(context.Info.Backend, Is.EqualTo(Backend.Cpu), "the best that works");
        }
    }

    [Test]
    public void AutoIsNoBackendOfDevices() =>
        Assert.That(() => DeviceInfo.List(Backend.Auto), Throws.TypeOf<ArgumentOutOfRangeException>());
}
