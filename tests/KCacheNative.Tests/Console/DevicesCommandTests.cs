namespace KCacheNative.Tests.Console;

public class DevicesCommandTests
{
    [Test]
    public async Task EveryBackendIsFoundOrSaysWhyNot()
    {
        var report = await ConsoleCall.JsonAsync("devices", "--json");
        var backends = report.GetProperty("backends").EnumerateArray().ToDictionary(b => b.GetProperty("backend").GetString()!);

        Assert.That(backends.Keys, Is.EquivalentTo(new[] { "cpu", "cuda" }));
        Assert.That(backends["cpu"].GetProperty("found").GetBoolean(), Is.True);
        Assert.That(backends["cpu"].GetProperty("threads").GetInt32(), Is.Positive);
        var processor = backends["cpu"].GetProperty("devices").EnumerateArray().Single();
        Assert.That(processor.GetProperty("number").GetInt32(), Is.Zero);
        Assert.That(processor.GetProperty("name").GetString(), Is.Not.Empty);
        Assert.That(processor.GetProperty("instruction_set").GetString(), Is.AnyOf("scalar", "avx2", "avx512"));
        foreach (var backend in backends.Values)
        {
            Assert.That(backend.GetProperty("devices").GetArrayLength() > 0, Is.EqualTo(backend.GetProperty("found").GetBoolean()));
            Assert.That(backend.TryGetProperty("problem", out _), Is.Not.EqualTo(backend.GetProperty("found").GetBoolean()));
        }
    }

    [Test]
    public async Task PeopleGetATable()
    {
        var call = await ConsoleCall.RunAsync("devices");

        Assert.That(call.ExitCode, Is.Zero, call.Error);
        Assert.That(call.Output, Does.Contain("cpu").And.Contain("cuda"));
    }
}
