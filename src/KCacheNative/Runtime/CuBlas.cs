using KCacheNative.Handles;
using KCacheNative.Interop;

namespace KCacheNative.Runtime;

/// <summary>
/// The products of a prompt on a GPU, by cuBLAS on the library's stream: the library expands the weights to floats in a scratch, cuBLAS
/// multiplies. Weights of one shape whose outputs are equally far apart (gate and up, K and V) are one batch. Where activations are taken in
/// 8 bits otherwise, their ten bits of TF32 do; else floats are taken as they are.
/// </summary>
internal sealed unsafe class CuBlas : IDisposable
{
    /// <summary>Tokens from which on reading expanded weights costs less than our own kernel's passes over them.</summary>
    internal const int LeastTokens = 17;

    // Larger weights go through the scratch in pieces of whole rows.
    private const long DefaultScratchBytes = 64 << 20;
    private const int WorkspaceBytes = 32 << 20;

    private readonly ComputeContext _context;
    private readonly CuBlasHandle _handle;
    private readonly DeviceBuffer _workspace;
    private readonly int _compute;
    private DeviceBuffer? _scratch;

    /// <exception cref="KCacheException">cuBLAS is not found, or does not work here.</exception>
    internal CuBlas(ComputeContext context)
    {
        _ = CuBlasLoader.Handle;
        _context = context;
        _compute = context.Info.Activations == Activations.Q8 ? CuBlasMethods.ComputeTensorFloat32 : CuBlasMethods.ComputeFloat32;
        _handle = new CuBlasHandle(context.Handle);
        try
        {
            // A workspace of our own: cuBLAS then allocates nothing while a prompt runs.
            _workspace = new DeviceBuffer(context, WorkspaceBytes);
            CuBlasMethods.SetWorkspace(Handle, (void*)_workspace.Pointer, WorkspaceBytes).ThrowIfFailed("taking a workspace");
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    internal long MostScratchBytes { get; set; } = DefaultScratchBytes;

    /// <summary>Device memory of the workspace and of the weights' scratch.</summary>
    internal long TakenBytes => WorkspaceBytes + (_scratch?.LengthBytes ?? 0);

    /// <summary>Its version, such as 120400.</summary>
    internal int Version
    {
        get
        {
            int version = 0;
            CuBlasMethods.GetVersion(Handle, &version).ThrowIfFailed("asking for the version");
            return version;
        }
    }

    private nint Handle => _handle.DangerousGetHandle();

    /// <summary>Whether the products are cuBLAS's: many tokens, and no bias, which it does not add.</summary>
    internal static bool Suits(Tensor x, ReadOnlySpan<MatMulOutput> products)
    {
        if (x.Rows < LeastTokens)
            return false;
        foreach (ref readonly var product in products)
        {
            if (!product.Bias.IsEmpty || product.Weight.Rows > int.MaxValue)
                return false;
        }

        return true;
    }

    /// <summary>What is taken for these products: how many weights are one batch, and the rows and columns of each.</summary>
    internal static long Bytes(params ReadOnlySpan<(int Weights, int Rows, int Columns)> batches)
    {
        long scratch = 0;
        foreach (var (weights, rows, columns) in batches)
            scratch = Math.Max(scratch, (long)weights * PieceRows(weights, rows, columns, DefaultScratchBytes) * columns * sizeof(float));
        return WorkspaceBytes + scratch;
    }

    /// <summary>Takes so much at once, so that no prompt takes more later.</summary>
    internal void Reserve(long bytes) => Scratch((bytes - WorkspaceBytes) / sizeof(float));

    /// <summary>As <see cref="Ops.MatMul(ComputeContext, Tensor, ReadOnlySpan{MatMulOutput})"/>, of shapes that were checked.</summary>
    internal void MatMul(Tensor x, ReadOnlySpan<MatMulOutput> products)
    {
        while (products.Length > 0)
        {
            int n = BatchLength(products);
            Multiply(x, products[..n]);
            products = products[n..];
        }

        GC.KeepAlive(this);
    }

    public void Dispose()
    {
        _scratch?.Dispose();
        _workspace?.Dispose();
        _handle.Dispose();
    }

    /// <summary>How many products from the first on are one batch.</summary>
    private static int BatchLength(ReadOnlySpan<MatMulOutput> products)
    {
        int n = 1;
        while (n < products.Length
            && products[n].Weight.Rows == products[0].Weight.Rows
            && products[n].Accumulate == products[0].Accumulate
            && Apart(products, n - 1) == Apart(products, 0)
            && Apart(products, 0) > 0)
            n++;
        return n;
    }

    private static long Apart(ReadOnlySpan<MatMulOutput> products, int i) => products[i + 1].Output.Data - products[i].Output.Data;

    private void Multiply(Tensor x, ReadOnlySpan<MatMulOutput> batch)
    {
        int columns = x.Columns, rows = (int)batch[0].Weight.Rows;
        int piece = PieceRows(batch.Length, rows, columns, MostScratchBytes);
        float* weights = Scratch((long)batch.Length * piece * columns);
        for (int first = 0; first < rows; first += piece)
        {
            int n = Math.Min(piece, rows - first);
            for (int i = 0; i < batch.Length; i++)
            {
                var weight = batch[i].Weight.Native;
                NativeMethods.MatrixExpand(_context.Native, &weight, first, n, weights + ((long)i * n * columns)).ThrowIfFailed();
            }

            // Row-major x W^T is column-major W^T x.
            float one = 1, beta = batch[0].Accumulate ? 1 : 0;
            float* output = batch[0].Output.Data + first;
            if (batch.Length == 1)
            {
                CuBlasMethods.GemmEx(
                    Handle, CuBlasMethods.Transposed, CuBlasMethods.AsIs, n, x.Rows, columns, &one, weights, CuBlasMethods.Float32, columns,
                    x.Data, CuBlasMethods.Float32, columns, &beta, output, CuBlasMethods.Float32, rows, _compute,
                    CuBlasMethods.DefaultAlgorithm).ThrowIfFailed("a product");
            }
            else
            {
                CuBlasMethods.GemmStridedBatchedEx(
                    Handle, CuBlasMethods.Transposed, CuBlasMethods.AsIs, n, x.Rows, columns, &one, weights, CuBlasMethods.Float32, columns,
                    (long)n * columns, x.Data, CuBlasMethods.Float32, columns, 0, &beta, output, CuBlasMethods.Float32, rows,
                    Apart(batch, 0), batch.Length, _compute, CuBlasMethods.DefaultAlgorithm).ThrowIfFailed("a batch of products");
            }
        }
    }

    private static int PieceRows(int weights, int rows, int columns, long mostBytes) =>
        (int)Math.Clamp(mostBytes / sizeof(float) / weights / columns, 1, rows);

    private float* Scratch(long floats)
    {
        long bytes = floats * sizeof(float);
        if (_scratch is null || _scratch.LengthBytes < bytes)
        {
            _scratch?.Dispose();
            _scratch = null;
            _scratch = new DeviceBuffer(_context, bytes);
        }

        return (float*)_scratch.Pointer;
    }
}
