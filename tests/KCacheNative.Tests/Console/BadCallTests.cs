using KCacheNative.Console;

namespace KCacheNative.Tests.Console;

public class BadCallTests
{
    private string _folder = "";

    [OneTimeSetUp]
    public void CreateFolder() => _folder = Directory.CreateTempSubdirectory("kcache-bad-calls-").FullName;

    [OneTimeTearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [TestCase("nosuch", "nosuch")]
    [TestCase("run", "MODEL")]
    [TestCase("run demo", "-p TEXT")]
    [TestCase("run demo -p x -f y", "not 2")]
    [TestCase("run demo -p", "-p")]
    [TestCase("run demo -p x --nosuch 1", "--nosuch")]
    [TestCase("run demo -p x --keep -1", "--keep", "-1")]
    [TestCase("run demo -p x --context 0", "--context", "'0'")]
    [TestCase("run demo -p x --policy nosuch", "full, window, kcache or sketch", "nosuch")]
    [TestCase("run demo -p x --fast-budget many", "--fast-budget", "512MiB", "many")]
    [TestCase("run demo -p x --temperature -1", "--temperature", "-1")]
    [TestCase("run demo -p x --temperature NaN", "--temperature", "NaN")]
    [TestCase("run demo -p x --seed -1", "--seed", "-1")]
    [TestCase("run demo -p x -n 0", "--max-tokens", "'0'")]
    [TestCase("run demo -p x --keep 1 --keep 2", "--keep")]
    [TestCase("run /nowhere.gguf -p x", "/nowhere.gguf")]
    [TestCase("run demo -f /nowhere.txt", "/nowhere.txt")]
    [TestCase("run demo --ids /nowhere.json", "/nowhere.json")]
    [TestCase("tokenize demo", "--messages")]
    [TestCase("eval demo", "-f FILE")]
    [TestCase("eval demo --questions -f x", "not both")]
    [TestCase("eval demo --questions --sweep", "not both")]
    [TestCase("eval demo -f x --sweep-keep 1", "--sweep")]
    [TestCase("eval demo --questions --last 5", "--last", "--questions")]
    [TestCase("eval demo --questions --windows 0,3", "--windows", "--questions")]
    [TestCase("eval demo -f x --sweep --policy kcache", "--policy", "--sweep-policies")]
    [TestCase("eval demo -f x --sweep --keep 32", "--keep", "--sweep-keep")]
    [TestCase("eval demo --questions --policy sketch --mode exact-weights", "--mode", "--policy sketch")]
    [TestCase("compare demo --policy window --keep 32", "--keep", "--policy window")]
    [TestCase("plan demo --policy full --recent 32", "--recent", "--policy full")]
    [TestCase("run demo -p x --mode exact-weights", "--mode", "--policy sketch, the default")]
    [TestCase("chat demo --policy window --max-tail 0.1", "--max-tail", "--policy window")]
    [TestCase("plan demo --batch 0", "--batch", "'0'")]
    [TestCase("run demo -p x --backend gpu", "auto, cpu or cuda", "gpu")]
    [TestCase("run demo -p x --backend cpu --device 1", "--device 1", "--backend cpu")]
    [TestCase("run demo -p x --device -1", "--device", "-1")]
    [TestCase("inspect /", "directory")]
    public async Task AWrongCallIsRefusedWithTheWayOut(string line, params string[] mentions) =>
        (await ConsoleCall.RunAsync(line.Split(' '))).AssertRefused(ExitCode.Usage, mentions);

    [TestCase("run demo -p x --backend cuda")]
    [TestCase("chat demo --backend cuda")]
    [TestCase("compare --backend cuda")]
    [TestCase("plan demo --backend cuda")]
    [TestCase("eval demo --questions --backend cuda")]
    [TestCase("eval demo -f {0} --backend cuda")]
    [TestCase("eval demo -f {0} --sweep --backend cuda")]
    [TestCase("plan demo --device 7")]
    public async Task ABackendThatIsNotThereIsRefusedWithTheReason(string line)
    {
        if ((await ConsoleCall.JsonAsync("devices", "--json")).GetProperty("backends")[1].GetProperty("found").GetBoolean())
            Assert.Ignore("this machine has a GPU");
        string text = Write("text.txt", string.Concat(Enumerable.Repeat("The keeper of Amber Harbor is Mira Holt. ", 400)));
        string[] args = [.. line.Split(' ').Select(word => word == "{0}" ? text : word)];

        var call = await ConsoleCall.RunAsync(args);

        call.AssertRefused(ExitCode.Failure, "needs an NVIDIA GPU, but this", "--backend cpu");
        Assert.That(call.Error, Does.Not.Contain("KC_"));
    }

    [Test]
    public async Task ABudgetBelowTheSmallestNamesIt() =>
        (await ConsoleCall.RunAsync("run", "demo", "-p", "x", "--fast-budget", "1KiB")).AssertRefused(ExitCode.Usage, "1024", "needs at least");

    [Test]
    public async Task AMissingSpillDirectoryIsNamed() =>
        (await ConsoleCall.RunAsync("run", "demo", "-p", "x", "--context", "8192", "--spill-dir", "/nowhere/x", "--fast-budget", await SmallestBudget()))
            .AssertRefused(ExitCode.Failure, "/nowhere/x");

    [Test]
    public async Task APromptBeyondTheContextIsRefusedBeforeItIsRun()
    {
        string file = Write("long.txt", string.Concat(Enumerable.Repeat("The keeper of Amber Harbor is Mira Holt. ", 30_000)));

        (await ConsoleCall.RunAsync("run", "demo", "-f", file, "--context", "64")).AssertRefused(ExitCode.Usage, "--context 64");
    }

    [TestCase("[1, 999999999, -3]", "999999999")]
    [TestCase("[1, -3]", "-3")]
    [TestCase("[9223372036854775807]", "9223372036854775807")]
    [TestCase("[]", "no token ids")]
    [TestCase("null", "no token ids")]
    [TestCase("[1.5]", "JSON list")]
    [TestCase("{\"ids\": [1]}", "JSON list")]
    [TestCase("", "JSON list")]
    [TestCase("[1", "JSON list")]
    public async Task IdsThatCannotBeRunAreNamed(string json, string mention) =>
        (await ConsoleCall.RunAsync("run", "demo", "--ids", Write("ids.json", json))).AssertRefused(ExitCode.Usage, mention);

    [TestCase("[]", "at least one message")]
    [TestCase("[{\"role\": \"user\"}]", "content")]
    [TestCase("[null]", "content")]
    [TestCase("[{\"role\": \"no name\", \"content\": \"x\"}]", "no name")]
    [TestCase("hello", "list of messages")]
    public async Task ChatsThatCannotBeRenderedAreNamed(string json, string mention) =>
        (await ConsoleCall.RunAsync("tokenize", "demo", "--messages", Write("chat.json", json))).AssertRefused(ExitCode.Usage, mention);

    [Test]
    public async Task TextThatIsNoUtf8IsRefused()
    {
        string file = Path.Combine(_folder, "latin1.txt");
        File.WriteAllBytes(file, [0x63, 0x61, 0x66, 0xE9, 0x20]);

        (await ConsoleCall.RunAsync("run", "demo", "-f", file)).AssertRefused(ExitCode.Usage, "UTF-8");
    }

    [Test]
    public async Task AnEmptyPromptIsRefusedWhereTheModelAddsNoBeginning()
    {
        string model = TestEnvironment.SmolModelPath;

        (await ConsoleCall.RunAsync("run", model, "-p", "")).AssertRefused(ExitCode.Usage, "empty");
    }

    [TestCase("")]
    [TestCase("GGUF")]
    [TestCase("hello world hello world hello world")]
    public async Task ADamagedModelIsNamed(string content)
    {
        string file = Write("bad.gguf", content);

        foreach (string[] args in new[] { new[] { "inspect", file }, ["run", file, "-p", "x"], ["plan", file], ["tokenize", file, "-p", "x"] })
            (await ConsoleCall.RunAsync(args)).AssertRefused(ExitCode.Failure, "bad.gguf");
    }

    [TestCase("--last", "99")]
    [TestCase("--windows", "2")]
    public async Task WindowsThatDoNotExistAreRefused(string option, string value)
    {
        string file = Write("short.txt", string.Concat(Enumerable.Repeat("The keeper of Amber Harbor is Mira Holt. ", 20)));

        var call = await ConsoleCall.RunAsync("eval", "demo", "-f", file, "--context", "100", "--last", "10", option, value);

        call.AssertRefused(ExitCode.Usage, option == "--last" ? "--last" : "no window 2");
    }

    private static async Task<string> SmallestBudget()
    {
        var plan = await ConsoleCall.JsonAsync("plan", "demo", "--context", "8192", "--policy", "kcache", "--json");
        return plan.GetProperty("policies")[0].GetProperty("fast_minimum_bytes").GetInt64().ToString();
    }

    private string Write(string name, string content)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, content);
        return path;
    }
}
