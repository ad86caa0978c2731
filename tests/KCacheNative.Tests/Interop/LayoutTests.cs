using System.Diagnostics;
using System.Reflection;
using System.Reflection.Emit;
using System.Text.Json;
using KCacheNative.Interop;
using KCacheNative.Runtime;

namespace KCacheNative.Tests.Interop;

/// <summary>Every struct of the C headers has a mirror of the same size, with the same fields at the same offsets.</summary>
public class LayoutTests
{
    private static readonly Dictionary<string, Type> PublicMirrors = new() { ["kc_batch_entry"] = typeof(BatchEntry) };

    [Test]
    public void MirrorsHaveTheLayoutOfTheHeaders()
    {
        using var layout = JsonDocument.Parse(RunLayout());
        var structs = layout.RootElement.EnumerateObject().ToArray();
        Assert.That(structs, Has.Length.GreaterThan(20), "the program knows the structs of both headers");
        Assert.Multiple(() =>
        {
            foreach (var native in structs)
                Compare(native.Name, native.Value);
        });
    }

    [Test]
    public void EveryMirrorStandsInTheHeaders()
    {
        using var layout = JsonDocument.Parse(RunLayout());
        var known = layout.RootElement.EnumerateObject().Select(native => MirrorName(native.Name)).ToHashSet();
        var mirrors = typeof(NativeMethods).Assembly.GetTypes()
            .Where(type => type is { IsValueType: true, IsEnum: false, Namespace: "KCacheNative.Interop", IsNested: false })
            .Where(type => type != typeof(KcMatmulOutputs));
        Assert.That(mirrors.Select(type => type.Name), Is.SubsetOf(known));
    }

    private static void Compare(string name, JsonElement native)
    {
        var type = PublicMirrors.GetValueOrDefault(name)
            ?? typeof(NativeMethods).Assembly.GetType("KCacheNative.Interop." + MirrorName(name));
        Assert.That(type, Is.Not.Null, $"{name} has a mirror");
        if (type is null)
            return;
        Assert.That(SizeOf(type), Is.EqualTo(native.GetProperty("size").GetInt32()), $"size of {name}");
        var fields = type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic);
        var expected = native.GetProperty("fields").EnumerateArray().Select(field => (Plain(field[0].GetString()!), field[1].GetInt32()));
        var found = fields.Select(field => (Plain(field.Name), OffsetOf(type, field)));
        Assert.That(found, Is.EqualTo(expected), $"fields of {name}");
    }

    private static string MirrorName(string name) =>
        string.Concat(name.Split('_').Select(word => char.ToUpperInvariant(word[0]) + word[1..]));

    private static string Plain(string name) => name.Replace("_", "").ToLowerInvariant();

    // Marshal knows the layout of marshalled copies; what is passed to C is the managed one, so IL is asked.
    private static int SizeOf(Type type) => Evaluate(il => il.Emit(OpCodes.Sizeof, type));

    private static int OffsetOf(Type type, FieldInfo field) => Evaluate(il =>
    {
        var instance = il.DeclareLocal(type);
        il.Emit(OpCodes.Ldloca, instance);
        il.Emit(OpCodes.Ldflda, field);
        il.Emit(OpCodes.Conv_U);
        il.Emit(OpCodes.Ldloca, instance);
        il.Emit(OpCodes.Conv_U);
        il.Emit(OpCodes.Sub);
        il.Emit(OpCodes.Conv_I4);
    });

    private static int Evaluate(Action<ILGenerator> body)
    {
        var method = new DynamicMethod("layout", typeof(int), null, typeof(LayoutTests).Module, skipVisibility: true);
        var il = method.GetILGenerator();
        body(il);
        il.Emit(OpCodes.Ret);
        return method.CreateDelegate<Func<int>>()();
    }

    private static string RunLayout()
    {
        string name = OperatingSystem.IsWindows() ? "layout.exe" : "layout";
        string folder = Path.Combine(TestEnvironment.RepositoryRoot, "artifacts", "cmake", "release", "tests", "native");
        string? program = new[] { folder, Path.Combine(folder, "Release") }
            .Select(parent => Path.Combine(parent, name)).FirstOrDefault(File.Exists);
        if (program is null)
            Assert.Ignore($"{folder} has no program '{name}': './build.sh native' builds it.");
        using var process = Process.Start(new ProcessStartInfo(program!) { RedirectStandardOutput = true })!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.That(process.ExitCode, Is.Zero);
        return output;
    }
}
