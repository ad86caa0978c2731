using System.Runtime.CompilerServices;
using BenchmarkDotNet.Attributes;
using KCacheNative.Interop;
using KCacheNative.Runtime;

namespace KCacheNative.Benchmarks;

/// <summary>The cost of one P/Invoke: what a call costs before it does anything. A decode step makes eleven for each layer.</summary>
public class InteropBenchmarks
{
    private const int Floats = 16;

    private ComputeContext _context = null!;
    private DeviceBuffer _buffer = null!;
    private Tensor _x;

    /// <summary>Makes a context.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        _context = new ComputeContext(new ContextOptions { Threads = 1 });
        // Zeros: adding them to themselves for ever overflows nothing.
        _buffer = new DeviceBuffer(_context, Floats * sizeof(float));
        _x = _buffer.Tensor(0, Floats);
    }

    /// <summary>A managed call that is not inlined, to compare with.</summary>
    [Benchmark(Baseline = true)]
    public int ManagedCall() => Abi();

    /// <summary>A native function without arguments: kc_abi.</summary>
    [Benchmark]
    public int NativeCall() => NativeMethods.AbiOfLibrary();

    /// <summary>A native function behind its guard against exceptions and its checks: kc_context_sync, through ComputeContext.</summary>
    [Benchmark]
    public void GuardedCall() => _context.Synchronize();

    /// <summary>The smallest kernel as a model calls it: checks of shapes in C# and of pointers in C included.</summary>
    [Benchmark]
    public void SmallestKernel() => Ops.Add(_context, _x, _x, _x);

    /// <summary>Frees everything.</summary>
    [GlobalCleanup]
    public void CleanUp()
    {
        _buffer.Dispose();
        _context.Dispose();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Abi() => NativeMethods.Abi;
}
