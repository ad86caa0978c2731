using System.Runtime.InteropServices;
using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

/// <summary>
/// A backend with its worker threads and scratch; buffers, caches and models are made from one. Different contexts may be used by different
/// threads at the same time; one context and all that was made from it by one thread at a time.
/// </summary>
public sealed unsafe class ComputeContext : IDisposable
{
    // The handle itself stays open until the last buffer and cache are disposed.
    private bool _disposed;
    private CuBlas? _cuBlas;
    private string? _cuBlasProblem;

    /// <summary>Creates a context.</summary>
    /// <param name="options">How; null for the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="KCacheException">The native library cannot be loaded, or the backend does not work on this machine.</exception>
    public ComputeContext(ContextOptions? options = null)
    {
        options ??= new ContextOptions();
        ArgumentOutOfRangeException.ThrowIfNegative(options.Threads, nameof(options) + "." + nameof(options.Threads));
        ArgumentOutOfRangeException.ThrowIfNegative(options.Device, nameof(options) + "." + nameof(options.Device));
        _ = NativeLibraryLoader.Handle;
        var desc = new KcContextDesc
        {
            Size = (uint)sizeof(KcContextDesc),
            Backend = (int)options.Backend,
            Device = options.Device,
            NThreads = options.Threads,
            Activations = (int)options.Activations,
        };
        nint context = 0;
        NativeMethods.ContextCreate(&desc, &context).ThrowIfFailed();
        Handle = new ContextHandle(context);
        HostSeesMemory = Info.Backend == Backend.Cpu;
    }

    internal ContextHandle Handle { get; }

    /// <summary>
    /// Why the products of prompts run on the library's own kernels, which are slower than cuBLAS; null where cuBLAS is used, and on the
    /// processor, which needs none.
    /// </summary>
    public string? CuBlasProblem => CuBlas is null ? _cuBlasProblem : null;

    /// <summary>The version of cuBLAS, such as 120400; 0 where it is not used.</summary>
    public int CuBlasVersion => CuBlas?.Version ?? 0;

    /// <summary>Device memory that cuBLAS was given: its workspace and a scratch for weights; 0 where it is not used.</summary>
    public long CuBlasBytes => _cuBlas?.TakenBytes ?? 0;

    /// <summary>Whether cuBLAS would be used, without taking anything yet.</summary>
    internal bool FindsCuBlas
    {
        get
        {
            if (HostSeesMemory || _cuBlasProblem is not null)
                return false;
            try
            {
                _ = CuBlasLoader.Handle;
                return true;
            }
            catch (KCacheException)
            {
                return false;
            }
        }
    }

    /// <summary>cuBLAS, looked for when it is first needed; null on the processor and where it is not found.</summary>
    internal CuBlas? CuBlas
    {
        get
        {
            if (HostSeesMemory || _cuBlas is not null || _cuBlasProblem is not null)
                return _cuBlas;
            ThrowIfDisposed();
            try
            {
                _cuBlas = new CuBlas(this);
            }
            catch (KCacheException problem)
            {
                _cuBlasProblem = problem.Message;
            }

            return _cuBlas;
        }
    }

    /// <summary>Whether the host may read and write buffers in place; else they are copied.</summary>
    internal bool HostSeesMemory { get; }

    /// <summary>The native context, for a call that this object outlives.</summary>
    internal nint Native
    {
        get
        {
            ThrowIfDisposed();
            return Handle.DangerousGetHandle();
        }
    }

    /// <summary>The version of the native library, such as "0.1.0".</summary>
    /// <exception cref="KCacheException">The native library cannot be loaded.</exception>
    public static string NativeVersion
    {
        get
        {
            _ = NativeLibraryLoader.Handle;
            return Marshal.PtrToStringUTF8((nint)NativeMethods.Version()) ?? "";
        }
    }

    /// <summary>What was decided, and what is in use now.</summary>
    public ContextInfo Info
    {
        get
        {
            var info = new KcContextInfo { Size = (uint)sizeof(KcContextInfo) };
            NativeMethods.ContextInfoGet(Native, &info).ThrowIfFailed();
            GC.KeepAlive(this);
            return new ContextInfo(
                (Backend)info.Backend,
                info.NThreads,
                (Activations)info.Activations,
                Marshal.PtrToStringUTF8((nint)info.Isa) ?? "",
                Marshal.PtrToStringUTF8((nint)info.Device) ?? "",
                checked((long)info.LiveBytes),
                checked((long)info.NLiveObjects),
                checked((long)info.NAllocations));
        }
    }

    /// <summary>Native allocations since the context was created; unchanged over a decode step.</summary>
    public long Allocations
    {
        get
        {
            var info = new KcContextInfo { Size = (uint)sizeof(KcContextInfo) };
            NativeMethods.ContextInfoGet(Native, &info).ThrowIfFailed();
            GC.KeepAlive(this);
            return checked((long)info.NAllocations);
        }
    }

    /// <summary>
    /// Grows the scratch to what <see cref="Ops.MatMul(ComputeContext, Tensor, MatMulOutput)"/> needs, so that no later call allocates.
    /// </summary>
    /// <param name="tokens">Most rows of an input.</param>
    /// <param name="columns">Most columns of an input.</param>
    public void Reserve(long tokens, long columns)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(tokens);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(columns);
        NativeMethods.ContextReserve(Native, tokens, columns).ThrowIfFailed();
        if (tokens >= CuBlas.LeastTokens)
            _ = CuBlas;
        GC.KeepAlive(this);
    }

    /// <summary>Returns when all enqueued work has finished; at once on the CPU.</summary>
    public void Synchronize()
    {
        NativeMethods.ContextSync(Native).ThrowIfFailed();
        GC.KeepAlive(this);
    }

    /// <summary>Frees the context once the last buffer and cache of it has been disposed.</summary>
    public void Dispose()
    {
        _disposed = true;
        _cuBlas?.Dispose();
        Handle.Dispose();
    }

    internal void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(_disposed, this);
}
