using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

[assembly: DisableRuntimeMarshalling]

namespace KCacheNative.Interop;

/// <summary>
/// The functions of the native library as C declares them, one file per chapter of include/kcache.h and per stem of
/// include/kcache_ops.h. All types are blittable: a call costs a transition and nothing else. Whoever calls one keeps the handle's owner
/// alive until it returns.
/// </summary>
internal static unsafe partial class NativeMethods
{
    internal const string Library = "kcache";

    /// <summary>KC_ABI of the headers that this assembly mirrors.</summary>
    internal const int Abi = 1;

    // Explicit, so that the resolver is in place before the first call and not at some earlier moment of the runtime's choice.
    static NativeMethods() =>
        NativeLibrary.SetDllImportResolver(
            typeof(NativeMethods).Assembly, static (name, _, _) => name switch
            {
                Library => NativeLibraryLoader.Handle,
                CuBlasMethods.Library => CuBlasLoader.Handle,
                _ => 0,
            });
}
