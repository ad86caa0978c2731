using System.Diagnostics.CodeAnalysis;

namespace KCacheNative.Runtime;

/// <summary>
/// The kernels a model is made of, one method each; what each computes is documented in include/kcache_ops.h. The order of arguments is
/// always context, inputs, scalars, outputs. Shapes are checked here (<see cref="ArgumentException"/>), values by the native library
/// (<see cref="KCacheException"/>). Tensors must outlive the call; results do not depend on threads or on how rows are batched.
/// </summary>
public static partial class Ops
{
    private static void RequireShape(Tensor tensor, long rows, long columns, string name)
    {
        if (tensor.IsEmpty || tensor.Rows < rows || tensor.Columns != columns)
            ThrowShape(tensor, rows, columns, name);
    }

    [DoesNotReturn]
    private static void ThrowShape(Tensor tensor, long rows, long columns, string name) => throw new ArgumentException(
        tensor.IsEmpty
            ? $"{name} is missing; {rows} x {columns} floats are needed"
            : $"{name} is {tensor.ShapeText}; {rows} x {columns} floats are needed",
        name);
}
