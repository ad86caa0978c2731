namespace KCacheNative.Tests.Console;

public class ChatCommandTests
{
    private static readonly string[] Chat = ["chat", "demo", "--temperature", "0", "-n", "24"];

    [Test]
    public async Task EachLineIsAnswered()
    {
        var call = await ConsoleCall.RunAsync("The flag of Amber Harbor is red. What is the flag of Amber Harbor?\n\nWho keeps Amber Harbor?\n/exit\nnever read\n", Chat);

        Assert.That(call.ExitCode, Is.Zero, call.Error);
        Assert.That(call.Error, Is.Empty);
        string[] answers = call.Output.TrimEnd().Split('\n');
        Assert.That(answers, Has.Length.EqualTo(2), call.Output);
        Assert.That(answers[0], Does.Contain("flag of Amber Harbor is red"));
        Assert.That(answers[1], Does.Contain("keeper of Amber Harbor"));
    }

    [Test]
    public async Task ResetForgets()
    {
        const string question = "The flag of Amber Harbor is red. What is the flag of Amber Harbor?";
        var twice = await ConsoleCall.RunAsync($"{question}\n/reset\n{question}\n", Chat);
        string[] answers = twice.Output.TrimEnd().Split('\n');

        Assert.That(answers, Has.Length.EqualTo(2), twice.Output);
        Assert.That(answers[1], Is.EqualTo(answers[0]));
    }

    [Test]
    public async Task TheEndOfTheInputEndsTheChat() => Assert.That((await ConsoleCall.RunAsync("", Chat)).ExitCode, Is.Zero);
}
