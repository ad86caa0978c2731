using System.Runtime.InteropServices;

namespace KCacheNative.Interop;

// "The cache as kernels see it" of kcache_ops.h: what the stems from kv_append on share.
internal static unsafe partial class NativeMethods
{
    internal const int PageTokens = 64;

    [LibraryImport(Library, EntryPoint = "kc_block_bytes")]
    internal static partial ulong BlockBytes(int codec, int headDim);
}

[StructLayout(LayoutKind.Sequential)]
internal struct KcPageView
{
    internal int Position;
    internal int Page;
    internal int Exact;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcSequenceView
{
    internal int FirstRow;
    internal int NRows;
    internal int NPast;
    internal int NPages;
    internal KcPageView* Pages;
    internal int FirstPage;
    internal int SetCentre;
    internal int Hot;
    internal int Reserved;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcStore
{
    internal int Codec;
    internal int Reserved;
    internal byte* Base;
    internal long PageStrideBytes;
    internal byte* First;
    internal long FirstStrideBytes;
    internal float* Centre;
    internal long CentreStride;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcExactStore
{
    internal int HasK;
    internal int VCodec;
    internal long RowBytes;
    internal byte* Base;
    internal long SlotStrideBytes;
    internal ushort* Scales;
    internal long ScaleStride;
    internal nint Spill;
    internal long SpillOffsetBytes;
    internal long SpillStrideBytes;
}

[StructLayout(LayoutKind.Sequential)]
internal struct KcLayerView
{
    internal int NQHeads;
    internal int NKvHeads;
    internal int HeadDim;
    internal float Scale;
    internal KcStore K;
    internal KcStore V;
    internal KcExactStore Exact;
}

[StructLayout(LayoutKind.Sequential)]
internal struct KcQueryView
{
    internal int Row;
    internal int Sequence;
    internal int NVisible;
    internal int VisibleFrom;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KcWave
{
    internal KcLayerView* Layer;
    internal KcSequenceView* Sequences;
    internal KcQueryView* Queries;
    internal int NQueries;
    internal int NSink;
    internal int NRecent;
    internal int KvHeadBegin;
    internal int KvHeadEnd;
    internal int Reserved;
    internal float* Q;
    internal long TokenStride;
}
