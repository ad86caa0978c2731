using KCacheNative.Runtime;

namespace KCacheNative.Tests.Runtime;

/// <summary>What the cache in C# promises beside the arithmetic: options, plans, sequences, states, errors.</summary>
public class KvCacheTests
{
    private static readonly CacheShape Shape = new(Layers: 2, QueryHeads: 4, KeyValueHeads: 2, HeadDimension: 32, TrainedContext: 256);

    private ComputeContext _context = null!;

    [SetUp]
    public void SetUp() => _context = new ComputeContext(new ContextOptions { Threads = 2 });

    [TearDown]
    public void TearDown() => _context.Dispose();

    [Test]
    public void ThePlanIsWhatIsTaken([Values(PolicyKind.Full, PolicyKind.Window, PolicyKind.KCache)] PolicyKind kind)
    {
        var options = new CacheOptions { Context = 200, Sequences = 3, BatchTokens = 48 };
        var plan = KvCache.Plan(_context, Shape, CachePolicy.For(kind), options);
        using var cache = new KvCache(_context, Shape, CachePolicy.For(kind), options);
        Assert.That(cache.Memory.FastBytes, Is.EqualTo(plan.FastBytes));
        Assert.That(plan.KeysBytes + plan.ValuesBytes + plan.ExactBytes + plan.HotBytes + plan.ScratchBytes, Is.EqualTo(plan.FastBytes));
    }

    [Test]
    public void DefaultsAreResolved()
    {
        var options = Shape.Resolve(new CacheOptions());
        Assert.That((options.Context, options.BatchTokens), Is.EqualTo((256, 256)));
        options = (Shape with { TrainedContext = 1 << 20 }).Resolve(new CacheOptions());
        Assert.That((options.Context, options.BatchTokens), Is.EqualTo((8192, 256)));
    }

    [Test]
    public void SequencesAreOpenedForkedTruncatedAndClosed()
    {
        using var cache = new KvCache(
            _context, Shape, CachePolicy.Full, new CacheOptions { Context = 128, Sequences = 2, BatchTokens = 80 });
        int first = cache.CreateSequence();
        Run(cache, new BatchEntry(first, 70, EntryKind.Prompt));
        Assert.That(cache.Length(first), Is.EqualTo(70));
        int second = cache.ForkSequence(first);
        Assert.That(cache.Length(second), Is.EqualTo(70));
        Assert.That(() => cache.CreateSequence(), Throws.TypeOf<KCacheException>().With.Property("Status").EqualTo(Status.Capacity));
        cache.Truncate(first, 3);
        Assert.That((cache.Length(first), cache.Length(second)), Is.EqualTo((3, 70)));
        cache.FreeSequence(first);
        Assert.That(cache.CreateSequence(), Is.EqualTo(first));
    }

    [Test]
    public void RollbackLeavesTheOldLengths()
    {
        using var cache = new KvCache(_context, Shape, CachePolicy.KCache, new CacheOptions { Context = 128, BatchTokens = 16 });
        int sequence = cache.CreateSequence();
        Run(cache, new BatchEntry(sequence, 5, EntryKind.Prompt));
        cache.Begin([new BatchEntry(sequence, 7, EntryKind.Decode)]);
        cache.Rollback();
        cache.Rollback();
        Assert.That(cache.Length(sequence), Is.EqualTo(5));
        Assert.That(cache.Statistics().Steps, Is.Zero, "a forward that was rolled back is not counted");
    }

    [Test]
    public void StepsAreCounted()
    {
        using var cache = new KvCache(
            _context,
            Shape,
            CachePolicy.KCache with { Keep = 2, Recent = 4, Sinks = 1 },
            new CacheOptions { Context = 128, BatchTokens = 64 });
        int sequence = cache.CreateSequence();
        Run(cache, new BatchEntry(sequence, 60, EntryKind.Prompt));
        Run(cache, new BatchEntry(sequence, 3, EntryKind.Decode));
        var all = cache.Statistics();
        Assert.That((all.Steps, all.HeadSteps, all.Selections), Is.EqualTo((3L, 3L * 4, 3L * 2)), "layer 0 is dense");
        Assert.That(all.RowsSelected, Is.EqualTo(all.Selections * 2));
        Assert.That(all.TailMean, Is.GreaterThan(0).And.LessThanOrEqualTo(all.TailMax));
        Assert.That(cache.Statistics(0).HeadSteps, Is.Zero);
        Assert.That(cache.Statistics(1).HeadSteps, Is.EqualTo(all.HeadSteps));
        cache.ResetStatistics();
        Assert.That(cache.Statistics(), Is.EqualTo(default(StepStatistics)));
    }

    [Test]
    public void CallsAtTheWrongTimeAreRefused()
    {
        using var cache = new KvCache(_context, Shape, CachePolicy.Full, new CacheOptions { Context = 64, BatchTokens = 8 });
        using var rows = new PoisonedMemory(_context, 8, 4, 32);
        int sequence = cache.CreateSequence();
        Assert.That(() => cache.Attend(0, rows.Tensor, rows.Tensor), WrongTime());
        Assert.That(() => cache.Commit(), WrongTime());
        cache.Begin([new BatchEntry(sequence, 1, EntryKind.Prompt)]);
        Assert.That(() => cache.Commit(), WrongTime(), "layers are missing");
        Assert.That(() => cache.CreateSequence(), WrongTime());
        cache.Rollback();
        Assert.That(() => cache.Begin([new BatchEntry(sequence, 65, EntryKind.Prompt)]), Throws.TypeOf<KCacheException>());
        Assert.That(() => cache.Begin([new BatchEntry(7, 1, EntryKind.Prompt)]), Throws.TypeOf<KCacheException>());
        Assert.That(() => cache.Append(0, rows.Tensor, rows.Tensor), Throws.ArgumentException, "4 heads where 2 are expected");
    }

    [Test]
    public void WhatCannotBeIsRefusedWhenTheCacheIsCreated()
    {
        var options = new CacheOptions { Context = 2048 };
        Assert.That(
            () => new KvCache(_context, Shape, CachePolicy.KCache, options with { FastBudgetBytes = 1024 }),
            Throws.TypeOf<KCacheException>().With.Property("Status").EqualTo(Status.Budget)
                .And.Message.Contains(KvCache.Plan(_context, Shape, CachePolicy.KCache, options).FastMinimumBytes.ToString()));
        long minimum = KvCache.Plan(_context, Shape, CachePolicy.KCache, options).FastMinimumBytes;
        Assert.That(
            () => new KvCache(
                _context, Shape, CachePolicy.KCache, options with { FastBudgetBytes = minimum, SpillDirectory = "/nowhere/at/all" }),
            Throws.TypeOf<KCacheException>().With.Property("Status").EqualTo(Status.IO).And.Message.Contains("/nowhere/at/all"));
        Assert.That(
            () => new KvCache(_context, Shape with { HeadDimension = 24 }, CachePolicy.Full, options),
            Throws.TypeOf<KCacheException>().With.Message.Contains("24"));
        Assert.That(_context.Info.LiveObjects, Is.Zero, "nothing of a refused cache stays");
    }

    [Test]
    public void WhatTheOptionsKnowThemselvesIsAnArgumentException()
    {
        var full = CachePolicy.Full;
        foreach (var policy in (CachePolicy[])[
            full with { Keep = -1 }, full with { Recent = 0 }, full with { Sinks = 65 }, full with { MaxTail = 1 },
            full with { MaxError = float.NaN }, full with { Keep = 8, KeepMax = 4 }, full with { DenseLayers = -1 }])
        {
            Assert.That(() => KvCache.Plan(_context, Shape, policy), Throws.InstanceOf<ArgumentOutOfRangeException>(), policy.ToString());
        }

        foreach (var options in (CacheOptions[])[
            new() { Context = -1 }, new() { Sequences = 0 }, new() { BatchTokens = -1 }, new() { FastBudgetBytes = -1 },
            new() { PoolTokens = -1 }])
        {
            Assert.That(
                () => KvCache.Plan(_context, Shape, full, options), Throws.InstanceOf<ArgumentOutOfRangeException>(), options.ToString());
        }

        Assert.That(() => new ComputeContext(new ContextOptions { Threads = -1 }), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void DefaultsOfTheKinds()
    {
        var kcache = CachePolicy.KCache;
        Assert.That((kcache.Keep, kcache.Sinks, kcache.Recent, kcache.DenseLayers), Is.EqualTo((64, 4, 32, 1)));
        var sketch = CachePolicy.Sketch;
        Assert.That((sketch.Keep, sketch.DenseLayers, sketch.KeyCodec, sketch.ValueSketch), Is.EqualTo((32, 0, Codec.Q4, Codec.Q2)));
    }

    private static NUnit.Framework.Constraints.IResolveConstraint WrongTime() =>
        Throws.TypeOf<KCacheException>().With.Property("Status").EqualTo(Status.State);

    private void Run(KvCache cache, BatchEntry entry)
    {
        var random = new Random(entry.Tokens);
        using var q = PoisonedMemory.Random(_context, random, entry.Tokens, Shape.QueryHeads, Shape.HeadDimension);
        using var k = PoisonedMemory.Random(_context, random, entry.Tokens, Shape.KeyValueHeads, Shape.HeadDimension);
        using var v = PoisonedMemory.Random(_context, random, entry.Tokens, Shape.KeyValueHeads, Shape.HeadDimension);
        using var output = new PoisonedMemory(_context, entry.Tokens, Shape.QueryHeads, Shape.HeadDimension);
        cache.Begin([entry]);
        for (int layer = 0; layer < Shape.Layers; layer++)
        {
            cache.Append(layer, k.Tensor, v.Tensor);
            cache.Attend(layer, q.Tensor, output.Tensor);
        }

        cache.Commit();
        Assert.That(output.Tensor.Span.ToArray(), Has.None.NaN);
        output.AssertMarginsUntouched();
    }
}
