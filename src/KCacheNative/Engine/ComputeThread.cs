namespace KCacheNative.Engine;

/// <summary>Work in steps, each short enough that others can wait for it.</summary>
internal interface IStepwise
{
    /// <summary>Does the next step; returns whether it was the last. Must not throw.</summary>
    bool Step();

    /// <summary>Ends the work without its last step. Must not throw.</summary>
    void Abandon();
}

/// <summary>
/// The thread on which a model computes for its sessions, so that callers never block. Several works take turns, step by step. It begins
/// with the first work.
/// </summary>
internal sealed class ComputeThread : IDisposable
{
    private readonly Lock _gate;
    private readonly object _wake = new();
    private readonly Queue<IStepwise> _works = new();
    private Thread? _thread;
    private bool _ends;

    /// <param name="gate">Held during every step: whoever else holds it has the model for itself.</param>
    internal ComputeThread(Lock gate) => _gate = gate;

    internal void Add(IStepwise work)
    {
        lock (_wake)
        {
            ObjectDisposedException.ThrowIf(_ends, this);
            _works.Enqueue(work);
            if (_thread is null)
            {
                _thread = new Thread(Run) { IsBackground = true, Name = "kcache compute" };
                _thread.Start();
            }

            Monitor.Pulse(_wake);
        }
    }

    /// <summary>Ends the thread behind the step that is running; works that are not done are abandoned.</summary>
    public void Dispose()
    {
        lock (_wake)
        {
            _ends = true;
            Monitor.Pulse(_wake);
        }

        if (_thread != Thread.CurrentThread)
            _thread?.Join();
        while (_works.TryDequeue(out var work))
            work.Abandon();
    }

    private void Run()
    {
        while (true)
        {
            IStepwise work;
            lock (_wake)
            {
                while (_works.Count == 0 && !_ends)
                    Monitor.Wait(_wake);
                if (_ends)
                    return;
                work = _works.Dequeue();
            }

            bool done;
            lock (_gate)
                done = work.Step();
            if (!done)
            {
                lock (_wake)
                    _works.Enqueue(work);
            }
        }
    }
}
