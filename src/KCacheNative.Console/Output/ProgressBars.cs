using Spectre.Console;

namespace KCacheNative.Console.Output;

/// <summary>Progress bars on the error stream while work is done; they vanish when it ends, and are never drawn where nobody watches.</summary>
internal sealed class ProgressBars
{
    private readonly ProgressContext? _context;

    private ProgressBars(ProgressContext? context) => _context = context;

    /// <summary>Does the work on another thread, so that the bars move however long a step takes.</summary>
    internal static Task<T> RunAsync<T>(Terminal terminal, Func<ProgressBars, T> work) =>
        RunAsync(terminal, bars => Task.Run(() => work(bars)));

    /// <summary>Does asynchronous work.</summary>
    internal static async Task<T> RunAsync<T>(Terminal terminal, Func<ProgressBars, Task<T>> work)
    {
        if (!terminal.ShowsProgress)
            return await work(new ProgressBars(null));
        return await terminal.ErrorView.Progress()
            .AutoClear(true)
            .HideCompleted(true)
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
            .StartAsync(context => work(new ProgressBars(context)));
    }

    /// <summary>Adds a bar.</summary>
    /// <param name="title">What is being done, in a few words.</param>
    internal Bar Add(string title) => new(_context?.AddTask(Markup.Escape(title)));

    /// <summary>One bar; reports may come from any thread.</summary>
    internal sealed class Bar(ProgressTask? task) : IDisposable
    {
        /// <summary>So much of the whole is done.</summary>
        internal void Report(double done, double whole)
        {
            if (task is null || whole <= 0)
                return;
            task.MaxValue = whole;
            task.Value = Math.Min(done, whole);
        }

        /// <summary>The work is done, or will not be: the bar goes.</summary>
        public void Dispose()
        {
            if (task is null)
                return;
            task.Value = task.MaxValue;
            task.StopTask();
        }
    }
}
