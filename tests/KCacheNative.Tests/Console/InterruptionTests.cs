using KCacheNative.Console;

namespace KCacheNative.Tests.Console;

public class InterruptionTests
{
    [Test]
    public void TheFirstAsksTheCommandToStopAndTheSecondIsForEnding()
    {
        var interruption = Interruption.WithoutSignals();

        Assert.That(interruption.Interrupt(), Is.True);
        Assert.That(interruption.Token.IsCancellationRequested, Is.True);
        Assert.That(interruption.Interrupt(), Is.False);
    }

    [Test]
    public void DuringATurnOnlyTheTurnStops()
    {
        var interruption = Interruption.WithoutSignals();
        using (var turn = interruption.BeginTurn())
        {
            Assert.That(interruption.Interrupt(), Is.True);
            Assert.That(turn.Token.IsCancellationRequested, Is.True);
            Assert.That(interruption.Token.IsCancellationRequested, Is.False);
            Assert.That(interruption.Interrupt(), Is.False, "pressed again while the turn is still stopping");
        }

        using var next = interruption.BeginTurn();
        Assert.That(next.Token.IsCancellationRequested, Is.False);
    }

    [Test]
    public void BehindATurnTheCommandIsMeantAgain()
    {
        var interruption = Interruption.WithoutSignals();
        interruption.BeginTurn().Dispose();

        Assert.That(interruption.Interrupt(), Is.True);
        Assert.That(interruption.Token.IsCancellationRequested, Is.True);
    }
}
