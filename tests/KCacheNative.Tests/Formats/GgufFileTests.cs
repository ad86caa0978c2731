using KCacheNative.Formats;

namespace KCacheNative.Tests.Formats;

/// <summary>Valid files: every value comes back as it was written, in place, from a file, from memory and from a stream.</summary>
public sealed class GgufFileTests
{
    [Test]
    public void EveryScalarTypeComesBack([Values(2, 3)] int version)
    {
        byte[] bytes = new GgufWriter(version)
            .Add("u8", GgufValueType.UInt8, [200])
            .Add("i8", GgufValueType.Int8, [0xFE])
            .Add("u16", GgufValueType.UInt16, BitConverter.GetBytes((ushort)60000))
            .Add("i16", GgufValueType.Int16, BitConverter.GetBytes((short)-30000))
            .Add("u32", GgufValueType.UInt32, BitConverter.GetBytes(4000000000u))
            .Add("i32", GgufValueType.Int32, BitConverter.GetBytes(-2000000000))
            .Add("u64", GgufValueType.UInt64, BitConverter.GetBytes(ulong.MaxValue))
            .Add("i64", GgufValueType.Int64, BitConverter.GetBytes(long.MinValue))
            .Add("f32", GgufValueType.Float32, BitConverter.GetBytes(1e-5f))
            .Add("f64", GgufValueType.Float64, BitConverter.GetBytes(Math.PI))
            .Add("bool", true)
            .Add("text", "naïve 🦊")
            .ToArray();

        using var file = GgufFile.FromMemory(bytes);
        var metadata = file.Metadata;
        Assert.That(file.Version, Is.EqualTo(version));
        string[] keys = ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "bool", "text"];
        Assert.That(metadata.Keys, Is.EqualTo(keys));
        Assert.That(metadata.GetInt32("u8"), Is.EqualTo(200));
        Assert.That(metadata.GetInt32("i8"), Is.EqualTo(-2));
        Assert.That(metadata.GetInt32("u16"), Is.EqualTo(60000));
        Assert.That(metadata.GetInt32("i16"), Is.EqualTo(-30000));
        Assert.That(metadata["u32"].TryGetInt64(out long u32) ? u32 : 0, Is.EqualTo(4000000000L));
        Assert.That(metadata.GetInt32("i32"), Is.EqualTo(-2000000000));
        Assert.That(metadata["u64"].ToString(), Is.EqualTo("18446744073709551615"));
        Assert.That(metadata["i64"].TryGetInt64(out long i64) ? i64 : 0, Is.EqualTo(long.MinValue));
        Assert.That(metadata.GetSingle("f32"), Is.EqualTo(1e-5f));
        Assert.That(metadata["f64"].TryGetDouble(out double f64) ? f64 : 0, Is.EqualTo(Math.PI));
        Assert.That(metadata.GetBoolean("bool"), Is.True);
        Assert.That(metadata.GetString("text"), Is.EqualTo("naïve 🦊"));
    }

    [Test]
    public void EveryArrayTypeComesBack([Values(2, 3)] int version)
    {
        byte[] bytes = new GgufWriter(version)
            .Add("u8", GgufValueType.UInt8, 2, [1, 255])
            .Add("i8", GgufValueType.Int8, 2, [1, 255])
            .Add("u16", GgufValueType.UInt16, 1, [1, 2])
            .Add("i16", GgufValueType.Int16, 1, [255, 255])
            .Add("u32", GgufValueType.UInt32, 1, [1, 0, 0, 0])
            .Add("i32", 5, -5)
            .Add("u64", GgufValueType.UInt64, 1, [7, 0, 0, 0, 0, 0, 0, 0])
            .Add("i64", GgufValueType.Int64, 1, [255, 255, 255, 255, 255, 255, 255, 255])
            .Add("f32", GgufValueType.Float32, 1, BitConverter.GetBytes(0.5f))
            .Add("f64", GgufValueType.Float64, 1, BitConverter.GetBytes(0.25))
            .Add("bool", GgufValueType.Boolean, 2, [1, 0])
            .Add("texts", "a", "", "ü")
            .Add("none", GgufValueType.Float64, 0, [])
            .ToArray();

        using var file = GgufFile.FromMemory(bytes);
        var metadata = file.Metadata;
        Assert.That(metadata.GetInt32s("u8"), Is.EqualTo(new[] { 1, 255 }));
        Assert.That(metadata.GetInt32s("i8"), Is.EqualTo(new[] { 1, -1 }));
        Assert.That(metadata.GetInt32s("u16"), Is.EqualTo(new[] { 513 }));
        Assert.That(metadata.GetInt32s("i16"), Is.EqualTo(new[] { -1 }));
        Assert.That(metadata.GetInt32s("u32"), Is.EqualTo(new[] { 1 }));
        Assert.That(metadata.GetInt32s("i32"), Is.EqualTo(new[] { 5, -5 }));
        Assert.That(metadata.GetInt32s("u64"), Is.EqualTo(new[] { 7 }));
        Assert.That(metadata.GetInt32s("i64"), Is.EqualTo(new[] { -1 }));
        Assert.That(metadata.GetSingles("f32").ToArray(), Is.EqualTo(new[] { 0.5f }));
        Assert.That(metadata["f64"].ToString(), Is.EqualTo("[0.25]"));
        Assert.That(metadata["bool"].ToString(), Is.EqualTo("[true, false]"));
        Assert.That(metadata.GetStrings("texts").ToArray(), Is.EqualTo(new[] { "a", "", "ü" }));
        Assert.That(metadata["none"].TypeText, Is.EqualTo("Float64[0]"));
    }

    [Test]
    public void TensorsLieInPlace([Values(2, 3)] int version, [Values(8, 32, 4096)] int alignment)
    {
        byte[] first = Enumerable.Range(0, 24).Select(i => (byte)i).ToArray();
        byte[] second = Enumerable.Range(0, 68).Select(i => (byte)(i * 3)).ToArray();
        byte[] bytes = new GgufWriter(version).Align(alignment)
            .AddTensor("a", GgufTensorType.F32, first, 3, 2)
            .AddTensor("b", GgufTensorType.Q8_0, second, 32, 1, 2)
            .ToArray();

        using var file = GgufFile.FromMemory(bytes);
        Assert.That(file.Tensors.Select(t => t.Name), Is.EqualTo(new[] { "a", "b" }));
        var (a, b) = (file.GetTensor("a"), file.GetTensor("b"));
        Assert.That(a.Dimensions.ToArray(), Is.EqualTo(new long[] { 3, 2 }));
        Assert.That((a.Type, a.ElementCount, a.LengthBytes), Is.EqualTo((GgufTensorType.F32, 6L, 24L)));
        Assert.That((b.Type, b.ElementCount, b.LengthBytes), Is.EqualTo((GgufTensorType.Q8_0, 64L, 68L)));
        Assert.That(a.Data.ToArray(), Is.EqualTo(first));
        Assert.That(b.Data.ToArray(), Is.EqualTo(second));
        Assert.That(a.FileOffset % alignment, Is.Zero);
        Assert.That((long)a.Pointer % Math.Min(alignment, 64), Is.Zero);
        Assert.That(b.ToString(), Is.EqualTo("b [32 x 1 x 2] Q8_0"));
    }

    [Test]
    public void AFileWithoutAnythingIsValid([Values(2, 3)] int version)
    {
        using var file = GgufFile.FromMemory(new GgufWriter(version).ToArray());
        Assert.That(file.Metadata.Count, Is.Zero);
        Assert.That(file.Tensors.Count, Is.Zero);
    }

    [Test]
    public unsafe void AllSourcesAgree()
    {
        byte[] data = Enumerable.Range(0, 4096).Select(i => (byte)i).ToArray();
        byte[] bytes = new GgufWriter().Add("general.name", "x").AddTensor("t", GgufTensorType.F32, data, 1024).ToArray();
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(path, bytes);
            byte[] shifted = [0, .. bytes];
            fixed (byte* pointer = bytes)
            {
                GgufFile[] files =
                [
                    GgufFile.Open(path),
                    GgufFile.FromMemory(bytes),
                    GgufFile.FromMemory(shifted.AsMemory(1)),
                    GgufFile.FromMemory((nint)pointer, bytes.Length),
                    GgufFile.FromStream(new MemoryStream(bytes), "stream"),
                ];
                foreach (var file in files)
                {
                    Assert.That(file.LengthBytes, Is.EqualTo(bytes.Length), file.Name);
                    Assert.That(file.Metadata.GetString("general.name"), Is.EqualTo("x"), file.Name);
                    Assert.That(file.GetTensor("t").Data.ToArray(), Is.EqualTo(data), file.Name);
                    Assert.That((long)file.GetTensor("t").Pointer % 32, Is.Zero, file.Name);
                    file.Dispose();
                    file.Dispose();
                }
            }
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Test]
    public void DisposingInvalidatesTensors()
    {
        var file = GgufFile.FromMemory(new GgufWriter().AddTensor("t", GgufTensorType.F32, new byte[4], 1).ToArray());
        var tensor = file.GetTensor("t");
        file.Dispose();
        Assert.That(() => tensor.Pointer, Throws.TypeOf<ObjectDisposedException>());
        Assert.That(() => tensor.Data.Length, Throws.TypeOf<ObjectDisposedException>());
        Assert.That(() => file.ReadAhead(), Throws.TypeOf<ObjectDisposedException>());
    }

    [Test]
    public void ReadAheadReportsProgressAndCanBeCancelled()
    {
        const int length = 10 << 20;
        using var file = GgufFile.FromMemory(new GgufWriter().AddTensor("t", GgufTensorType.I8, new byte[length], length).ToArray());
        var reports = new Reports();
        file.ReadAhead(reports);
        Assert.That(reports.Seen, Has.Count.EqualTo(3));
        Assert.That(reports.Seen, Is.Ordered.By(nameof(LoadProgress.DoneBytes)));
        Assert.That(reports.Seen[^1], Is.EqualTo(new LoadProgress(file.LengthBytes, file.LengthBytes)));
        Assert.That(() => file.ReadAhead(null, new CancellationToken(true)), Throws.InstanceOf<OperationCanceledException>());
    }

    [Test]
    public void OpeningReportsProgress()
    {
        string[] texts = Enumerable.Repeat(new string('x', 1000), 5000).ToArray();
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(path, new GgufWriter().Add("texts", texts).ToArray());
            var reports = new Reports();
            using var file = GgufFile.Open(path, reports);
            Assert.That(reports.Seen, Has.Count.GreaterThan(3));
            Assert.That(reports.Seen[^1].DoneBytes, Is.EqualTo(file.LengthBytes));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Test]
    public void TypedGettersNameTheKeyAndBothTypes()
    {
        using var file = GgufFile.FromMemory(
            new GgufWriter().Add("text", "abc").Add("big", GgufValueType.UInt64, BitConverter.GetBytes(1UL << 40))
                .Add("wide", GgufValueType.Int64, 2, [.. BitConverter.GetBytes(1L), .. BitConverter.GetBytes(-1L << 40)])
                .ToArray(),
            "model.gguf");
        var metadata = file.Metadata;
        AssertNames(() => metadata.GetInt32("text"), "model.gguf", "'text'", "String abc", "integer");
        AssertNames(() => metadata.GetInt32("big"), "'big'", "UInt64 1099511627776", "32 bits");
        AssertNames(() => metadata.GetString("big"), "'big'", "UInt64", "a String");
        AssertNames(() => metadata.GetSingle("text"), "'text'", "a number");
        AssertNames(() => metadata.GetBoolean("text"), "'text'", "a Boolean");
        AssertNames(() => metadata.GetStrings("text"), "'text'", "an array of String");
        AssertNames(() => metadata.GetInt32s("text"), "'text'", "an array of integers");
        AssertNames(() => metadata.GetSingles("text"), "'text'", "an array of Float32");
        AssertNames(() => metadata.GetInt32s("wide"), "'wide'", "Int64[2]", "an array of integers");
        AssertNames(() => metadata.GetInt32("absent"), "'absent'", "missing");
        AssertNames(() => metadata.GetInt32("text", 7), "'text'", "integer");
        AssertNames(() => file.GetTensor("blk.0.attn_q.weight"), "'blk.0.attn_q.weight'", "missing");
        Assert.That(metadata.GetInt32("absent", 7), Is.EqualTo(7));
        Assert.That(metadata.GetString("absent", null), Is.Null);
        Assert.That(metadata.GetSingle("absent", 0.5f), Is.EqualTo(0.5f));
        Assert.That(metadata.GetBoolean("absent", true), Is.True);
    }

    [Test]
    public void ComputableTypesAreThoseOfTheKernels() =>
        Assert.That(GgufTensorTypeInfo.ComputableNames, Is.EqualTo("F32, F16, BF16, Q8_0, Q4_0, Q4_1"));

    [Test]
    public void TheRealModelsAreRead()
    {
        using var file = GgufFile.Open(TestEnvironment.SmolModelPath);
        Assert.That((file.Version, file.Metadata.Count, file.Tensors.Count), Is.EqualTo((3, 33, 272)));
        Assert.That(file.Metadata.GetInt32("llama.block_count"), Is.EqualTo(30));
        Assert.That(file.Metadata.GetSingle("llama.rope.freq_base"), Is.EqualTo(100000f));
        Assert.That(file.Metadata.GetStrings("tokenizer.ggml.tokens").Length, Is.EqualTo(49152));
        var embedding = file.GetTensor("token_embd.weight");
        Assert.That(embedding.Dimensions.ToArray(), Is.EqualTo(new long[] { 576, 49152 }));
        Assert.That((embedding.Type, embedding.LengthBytes), Is.EqualTo((GgufTensorType.Q8_0, 576L * 49152 / 32 * 34)));
        var last = file.Tensors[^1];
        Assert.That(last.FileOffset + last.LengthBytes, Is.LessThanOrEqualTo(file.LengthBytes).And.GreaterThan(file.LengthBytes - 64));
    }

    private static void AssertNames(Action call, params string[] parts)
    {
        var error = Assert.Throws<ModelFormatException>(() => call());
        foreach (string part in parts)
            Assert.That(error!.Message, Does.Contain(part));
    }

    private sealed class Reports : IProgress<LoadProgress>
    {
        public List<LoadProgress> Seen { get; } = [];

        public void Report(LoadProgress value) => Seen.Add(value);
    }
}
