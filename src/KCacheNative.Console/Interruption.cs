using System.Runtime.InteropServices;

namespace KCacheNative.Console;

/// <summary>
/// Ctrl-C and termination signals. The first asks what runs now to stop: the turn if one was begun, else the command. Whoever does not
/// want to wait presses again, and the process ends at once.
/// </summary>
internal sealed class Interruption
{
    private readonly Lock _gate = new();
    private readonly CancellationTokenSource _command = new();
    private readonly List<PosixSignalRegistration> _registrations = [];
    private CancellationTokenSource? _turn;

    private Interruption()
    {
    }

    /// <summary>Cancelled when the command shall stop.</summary>
    internal CancellationToken Token => _command.Token;

    internal static Interruption WithoutSignals() => new();

    internal static Interruption OfProcess()
    {
        var interruption = new Interruption();
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM })
        {
            interruption._registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                if (!interruption.Interrupt())
                    EndProcess();
            }));
        }

        return interruption;
    }

    /// <summary>From here until the result is disposed, an interruption cancels the result's token and not the command.</summary>
    internal Turn BeginTurn()
    {
        lock (_gate)
        {
            _turn = CancellationTokenSource.CreateLinkedTokenSource(_command.Token);
            return new Turn(this, _turn);
        }
    }

    /// <summary>Asks what runs now to stop; false if it had been asked before.</summary>
    internal bool Interrupt()
    {
        lock (_gate)
        {
            var running = _turn ?? _command;
            if (running.IsCancellationRequested)
                return false;
            running.Cancel();
            return true;
        }
    }

    private static void EndProcess()
    {
        if (!System.Console.IsErrorRedirected)
            System.Console.Error.Write("\e[?25h"); // a progress bar may have hidden the cursor
        Environment.Exit(ExitCode.Cancelled);
    }

    private void End(CancellationTokenSource turn)
    {
        lock (_gate)
        {
            _turn = null;
            turn.Dispose();
        }
    }

    /// <summary>A stretch of work that can be stopped without ending the command.</summary>
    internal readonly struct Turn(Interruption owner, CancellationTokenSource source) : IDisposable
    {
        internal CancellationToken Token => source.Token;

        public void Dispose() => owner.End(source);
    }
}
