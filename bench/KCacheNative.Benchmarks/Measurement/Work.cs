namespace KCacheNative.Benchmarks.Measurement;

/// <summary>What one call of a benchmark must do at least, by the formula in the header of the kernel's file.</summary>
/// <param name="Bytes">Bytes read and written; 0: not bound by memory, no rate is shown.</param>
/// <param name="Operations">Floating-point operations, a multiply-add being two; 0: not bound by arithmetic, no rate is shown.</param>
public readonly record struct Work(double Bytes, double Operations = 0);

/// <summary>A class of benchmarks that knows what each of them must do.</summary>
public interface IWorkload
{
    /// <summary>The work of one call, from the parameters alone: nothing has been set up.</summary>
    /// <param name="benchmark">The name of the benchmark's method.</param>
    Work WorkOf(string benchmark);
}
