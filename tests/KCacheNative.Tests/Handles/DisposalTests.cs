using KCacheNative.Runtime;

namespace KCacheNative.Tests.Handles;

/// <summary>Who owns what: disposal in any order gives everything back, and use after it is refused.</summary>
public class DisposalTests
{
    private static readonly CacheShape Shape = new(1, 2, 1, 16, 64);

    [Test]
    public void EverythingIsGivenBack()
    {
        using var context = new ComputeContext();
        var before = context.Info;
        Assert.That(before.LiveObjects, Is.Zero);
        using (var buffer = new DeviceBuffer(context, 1000))
        using (var cache = new KvCache(context, Shape, CachePolicy.Full))
        {
            Assert.That(context.Info.LiveObjects, Is.EqualTo(2));
            Assert.That(context.Info.LiveBytes, Is.GreaterThanOrEqualTo(before.LiveBytes + 1000 + cache.Memory.FastBytes));
        }

        Assert.That((context.Info.LiveBytes, context.Info.LiveObjects), Is.EqualTo((before.LiveBytes, before.LiveObjects)));
    }

    [Test]
    public void ChildrenOutliveADisposedContext()
    {
        var context = new ComputeContext();
        var buffer = new DeviceBuffer(context, 64);
        context.Dispose();
        buffer.Span<byte>(0, 64)[0] = 1;
        Assert.That(() => context.Info, Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => new DeviceBuffer(context, 64), Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => new KvCache(context, Shape, CachePolicy.Full), Throws.InstanceOf<ObjectDisposedException>());
        buffer.Dispose();
        buffer.Dispose();
        Assert.That(() => buffer.Pointer, Throws.InstanceOf<ObjectDisposedException>());
    }

    [Test]
    public void ADisposedCacheIsRefused()
    {
        using var context = new ComputeContext();
        var cache = new KvCache(context, Shape, CachePolicy.Full);
        cache.Dispose();
        Assert.That(() => cache.CreateSequence(), Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => cache.Memory, Throws.InstanceOf<ObjectDisposedException>());
    }

    [Test]
    public void AFailureCarriesStatusAndSentence()
    {
        using var context = new ComputeContext();
        using var cache = new KvCache(context, Shape, CachePolicy.Full);
        var failure = Assert.Throws<KCacheException>(() => cache.Length(5))!;
        Assert.That(failure.Status, Is.EqualTo(Status.Argument));
        Assert.That(failure.Message, Does.Contain("5"));
    }

    [Test]
    public void ForgottenObjectsAreCollected()
    {
        var context = new ComputeContext();
        Forget(context);
        for (int i = 0; i < 10 && context.Info.LiveObjects > 0; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.That(context.Info.LiveObjects, Is.Zero);
        context.Dispose();

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        static void Forget(ComputeContext context)
        {
            _ = new DeviceBuffer(context, 64);
            _ = new KvCache(context, Shape, CachePolicy.Full);
        }
    }
}
