using System.Buffers.Binary;
using KCacheNative.Formats;

namespace KCacheNative.Tests.Formats;

/// <summary>Hostile files, damaged in every field, cut at every byte: refused with the defect's name, or read without harm.</summary>
public sealed class GgufReaderTests
{
    private const int MostAllocatedBytes = 256 << 10;

    private static readonly ulong[] HostileNumbers =
    [
        0, 1, 2, 5, 7, 33, 255, 1 << 16, (1ul << 31) - 1, 1ul << 31, 1ul << 32, (1ul << 32) + 1, 1ul << 58, 1ul << 60, 1ul << 61, 1ul << 62,
        (1ul << 63) - 1, 1ul << 63, ulong.MaxValue - 31, ulong.MaxValue - 7, ulong.MaxValue - 1, ulong.MaxValue,
    ];

    private static GgufWriter Sample(int version) => new GgufWriter(version)
        .Align(64)
        .Add("general.architecture", "llama")
        .Add("count", 7)
        .Add("flag", true)
        .Add("bytes", GgufValueType.UInt8, 3, [1, 2, 3])
        .Add("flags", GgufValueType.Boolean, 2, [0, 1])
        .Add("numbers", 1, 2, 3)
        .Add("wide", GgufValueType.Float64, 1, BitConverter.GetBytes(2.5))
        .Add("texts", "one", "", "three")
        .AddTensor("first.weight", GgufTensorType.F32, new byte[48], 4, 3)
        .AddTensor("second.weight", GgufTensorType.Q4_1, new byte[40], 32, 2)
        .AddTensor("third.weight", GgufTensorType.F16, new byte[20], 10);

    [Test]
    public void EveryFieldWrongInEveryWay([Values(2, 3)] int version)
    {
        var writer = Sample(version);
        byte[] valid = writer.ToArray();
        int refused = 0;
        foreach (var field in writer.Fields)
        {
            ulong original = Get(valid, field);
            foreach (ulong number in HostileNumbers.Append(original + 1).Append(original - 1).Append(original * 2))
            {
                byte[] damaged = With(valid, field, number);
                bool accepted = OpensWithoutHarm(damaged, $"{field} = {number}");
                refused += accepted ? 0 : 1;

                // What no file of this size can hold must be refused, whatever else a change may turn out to mean.
                if (field.Kind is FieldKind.Count or FieldKind.Length or FieldKind.Dimension or FieldKind.Offset && field.Size == 8
                    && number > (ulong)valid.Length)
                    Assert.That(accepted, Is.False, $"{field} = {number}");
            }
        }

        Assert.That(refused, Is.GreaterThan(writer.Fields.Count * 15));
    }

    [Test]
    public void CutAtEveryByte([Values(2, 3)] int version)
    {
        byte[] valid = Sample(version).ToArray();
        for (int length = 0; length < valid.Length; length++)
            Assert.That(OpensWithoutHarm(valid[..length], $"cut to {length}"), Is.False, $"cut to {length} of {valid.Length}");
        Assert.That(OpensWithoutHarm(valid, "whole"), Is.True);
    }

    [Test]
    public void RandomDamageDoesNoHarm([Values(2, 3)] int version)
    {
        byte[] valid = Sample(version).ToArray();
        var random = new Random(version);
        for (int round = 0; round < 20000; round++)
        {
            byte[] damaged = (byte[])valid.Clone();
            for (int change = random.Next(1, 5); change > 0; change--)
                damaged[random.Next(damaged.Length)] = (byte)random.Next(256);
            OpensWithoutHarm(damaged, $"round {round}");
        }
    }

    private static IEnumerable<TestCaseData> Defects()
    {
        yield return Defect("magic", FieldKind.Magic, "magic", 0x46554746, "header", "does not begin with 'GGUF'");
        yield return Defect("version 1", FieldKind.Version, "version", 1, "header", "version is 1");
        yield return Defect("version 4", FieldKind.Version, "version", 4, "header", "version is 4");
        yield return Defect("big-endian", FieldKind.Version, "version", 3u << 24, "header", "big-endian");
        yield return Defect("2^60 tensors", FieldKind.Count, "tensor count", 1ul << 60, "header",
            "number of tensors is 1152921504606846976");
        yield return Defect("2^60 entries", FieldKind.Count, "entry count", 1ul << 60, "header", "number of metadata entries is");
        yield return Defect("one entry less", FieldKind.Count, "entry count", 8, "tensor 0", "dimensions");
        yield return Defect("key of 2^63 bytes", FieldKind.Length, "key count length", 1ul << 63, "metadata entry 2",
            "9223372036854775808 bytes long");
        yield return Defect("empty key", FieldKind.Length, "key count length", 0, "metadata entry 2", "the key is empty");
        yield return Defect("text beyond the end", FieldKind.Length, "general.architecture length", 100000, "'general.architecture'",
            "100000 bytes long");
        yield return Defect("value type 13", FieldKind.ValueType, "count type", 13, "'count'", "value type 13 is unknown");
        yield return Defect("value type 2^32-1", FieldKind.ValueType, "flag type", uint.MaxValue, "'flag'",
            "value type 4294967295 is unknown");
        yield return Defect("element type 99", FieldKind.ValueType, "numbers element type", 99, "'numbers'", "value type 99 is unknown");
        yield return Defect("array of arrays", FieldKind.ValueType, "texts element type", 9, "'texts'", "array of arrays");
        yield return Defect("2^60 texts", FieldKind.Count, "texts count", 1ul << 60, "'texts'",
            "length of the array is 1152921504606846976");
        yield return Defect("2^61 numbers", FieldKind.Count, "numbers count", 1ul << 61, "'numbers'", "have room for at most");
        yield return Defect("2^62 numbers, which wraps in bytes", FieldKind.Count, "numbers count", (1ul << 62) + 1, "'numbers'",
            "have room for at most");
        yield return Defect("no dimensions", FieldKind.DimensionCount, "first.weight dimension count", 0, "'first.weight'", "0 dimensions");
        yield return Defect("5 dimensions", FieldKind.DimensionCount, "first.weight dimension count", 5, "'first.weight'", "5 dimensions");
        yield return Defect("2^32-1 dimensions", FieldKind.DimensionCount, "first.weight dimension count", uint.MaxValue, "'first.weight'",
            "4294967295 dimensions");
        yield return Defect("dimension 0", FieldKind.Dimension, "first.weight dimension", 0, "'first.weight'", "dimension 0 is 0");
        yield return Defect("product beyond 2^63", FieldKind.Dimension, "first.weight dimension", 1ul << 62, "'first.weight'",
            "product must lie");
        yield return Defect("product that wraps to 0", FieldKind.Dimension, "second.weight dimension", 1ul << 63, "'second.weight'",
            "product must lie");
        yield return Defect("more bytes than the file", FieldKind.Dimension, "first.weight dimension", 1ul << 40, "'first.weight'",
            "the whole file has");
        yield return Defect("half a block", FieldKind.Dimension, "second.weight dimension", 16, "'second.weight'",
            "16 elements, no multiple of the 32");
        yield return Defect("tensor type 4", FieldKind.TensorType, "first.weight type", 4, "'first.weight'", "tensor type 4 is unknown");
        yield return Defect("tensor type 2^32-1", FieldKind.TensorType, "first.weight type", uint.MaxValue, "'first.weight'",
            "4294967295 is unknown");
        yield return Defect("offset off the alignment", FieldKind.Offset, "second.weight offset", 32, "'second.weight'",
            "no multiple of the alignment 64");
        yield return Defect("offset 2^64-64, which wraps", FieldKind.Offset, "second.weight offset", ulong.MaxValue - 63, "'second.weight'",
            "its offset is 18446744073709551552");
        yield return Defect("offset at the end", FieldKind.Offset, "third.weight offset", 192, "'third.weight'", "do not lie within");
        yield return Defect("overlap", FieldKind.Offset, "third.weight offset", 64, "tensor 'third.weight'", "within 'second.weight'");
        yield return Defect("same place", FieldKind.Offset, "second.weight offset", 0, "tensor 'second.weight'", "within 'first.weight'");
    }

    [TestCaseSource(nameof(Defects))]
    public void TheDefectIsNamed(FieldKindAndName at, ulong number, string structure, string defect)
    {
        foreach (int version in new[] { 2, 3 })
        {
            var writer = Sample(version);
            byte[] valid = writer.ToArray();
            var field = writer.Fields.First(f => f.Kind == at.Kind && f.Name == at.Name);
            AssertRefused(With(valid, field, number), structure, defect);
        }
    }

    [TestCase(0)]
    [TestCase(1)]
    [TestCase(4)]
    [TestCase(48)]
    [TestCase(1 << 17)]
    [TestCase(-64)]
    public void AbsurdAlignments(int alignment) => AssertRefused(
        new GgufWriter().Add("general.alignment", unchecked((uint)alignment)).ToArray(), "'general.alignment'",
            "a power of two from 8 to 65536");

    [Test]
    public void AlignmentOfAnotherType() =>
        AssertRefused(new GgufWriter().Add("general.alignment", "32").ToArray(), "'general.alignment'", "String 32");

    [Test]
    public void DuplicateKeys() =>
        AssertRefused(new GgufWriter().Add("a", 1).Add("a", 2).ToArray(), "metadata entry 1 'a'", "occurs twice");

    [Test]
    public void DuplicateTensors() => AssertRefused(
        new GgufWriter().AddTensor("t", GgufTensorType.F32, new byte[4], 1).AddTensor("t", GgufTensorType.F32, new byte[4], 1).ToArray(),
        "tensor 1 't'", "the name occurs twice");

    [Test]
    public void BooleansAreZeroOrOne()
    {
        AssertRefused(new GgufWriter().Add("flag", GgufValueType.Boolean, [2]).ToArray(), "'flag'", "a Boolean is 2");
        AssertRefused(new GgufWriter().Add("flags", GgufValueType.Boolean, 2, [0, 255]).ToArray(), "'flags'", "a Boolean is 255");
    }

    [Test]
    public void TextsAreUtf8()
    {
        byte[] bytes = new GgufWriter().Add("text", "abcdefgh").ToArray();
        bytes[^3] = 0xFF;
        AssertRefused(bytes, "'text'", "not valid UTF-8");
    }

    [Test]
    public void LongKeys() => AssertRefused(
        new GgufWriter().Add(new string('k', 65536), 1).ToArray(), "metadata entry 0", "65536 characters, more than 65535");

    [Test]
    public void ControlCharactersDoNotReachTheMessage()
    {
        var error = Assert.Throws<ModelFormatException>(() =>
            Open(new GgufWriter().Add("a\u001b[2J\nb", 1).Add("a\u001b[2J\nb", 1).ToArray()));
        Assert.That(error!.Message.Any(char.IsControl), Is.False);
    }

    [Test]
    public void FilesThatCannotBeOpened()
    {
        Assert.That(() => GgufFile.Open("/nowhere/model.gguf"), Throws.TypeOf<KCacheException>()
            .With.Message.Contains("/nowhere/model.gguf").And.Message.Contains("no such file"));
        Assert.That(() => GgufFile.Open(Path.GetTempPath()), Throws.TypeOf<KCacheException>().With.Message.Contains("directory"));
        Assert.That(() => GgufFile.Open(""), Throws.ArgumentException);
        string empty = Path.GetTempFileName();
        try
        {
            Assert.That(() => GgufFile.Open(empty), Throws.TypeOf<ModelFormatException>().With.Message.Contains("empty"));
        }
        finally
        {
            File.Delete(empty);
        }
    }

    /// <summary>A field by kind and name; a type of its own so that test names stay readable.</summary>
    public sealed record FieldKindAndName
    {
        internal FieldKind Kind { get; init; }

        internal string Name { get; init; } = "";
    }

    private static TestCaseData Defect(string title, FieldKind kind, string name, ulong number, string structure, string defect) =>
        new TestCaseData(new FieldKindAndName { Kind = kind, Name = name }, number, structure, defect).SetArgDisplayNames(title);

    private static void AssertRefused(byte[] bytes, string structure, string defect)
    {
        var error = Assert.Throws<ModelFormatException>(() => Open(bytes));
        Assert.That(error!.Message, Does.StartWith("hostile.gguf: "));
        Assert.That(error.Structure, Does.Contain(structure));
        Assert.That(error.Defect, Does.Contain(defect));
    }

    /// <summary>True if the file was read, and all in it lies within it. Any failure but a format error fails the test.</summary>
    private static bool OpensWithoutHarm(byte[] bytes, string what)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        bool read = true;
        try
        {
            Open(bytes);
        }
        catch (ModelFormatException)
        {
            read = false;
        }
        catch (Exception e)
        {
            Assert.Fail($"{what}: {e}");
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(MostAllocatedBytes), what);
        return read;
    }

    private static void Open(byte[] bytes)
    {
        using var file = GgufFile.FromMemory(bytes, "hostile.gguf");
        foreach (var tensor in file.Tensors)
        {
            Assert.That(tensor.FileOffset, Is.Positive);
            Assert.That(tensor.LengthBytes, Is.Positive);
            Assert.That(tensor.FileOffset + tensor.LengthBytes, Is.LessThanOrEqualTo(bytes.Length));
        }
    }

    private static ulong Get(byte[] bytes, Field field) => field.Size == 4
        ? BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(field.Position))
        : BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(field.Position));

    private static byte[] With(byte[] bytes, Field field, ulong number)
    {
        byte[] changed = (byte[])bytes.Clone();
        if (field.Size == 4)
            BinaryPrimitives.WriteUInt32LittleEndian(changed.AsSpan(field.Position), (uint)number);
        else
            BinaryPrimitives.WriteUInt64LittleEndian(changed.AsSpan(field.Position), number);
        return changed;
    }
}
