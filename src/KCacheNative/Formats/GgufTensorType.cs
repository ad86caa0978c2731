namespace KCacheNative.Formats;

/// <summary>How the numbers of a tensor are stored; the values are those of the GGUF format (ggml_type).</summary>
public enum GgufTensorType : uint
{
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q8_1 = 9,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    Q8_K = 15,
    IQ2_XXS = 16,
    IQ2_XS = 17,
    IQ3_XXS = 18,
    IQ1_S = 19,
    IQ4_NL = 20,
    IQ3_S = 21,
    IQ2_S = 22,
    IQ4_XS = 23,
    I8 = 24,
    I16 = 25,
    I32 = 26,
    I64 = 27,
    F64 = 28,
    IQ1_M = 29,
    BF16 = 30,
    TQ1_0 = 34,
    TQ2_0 = 35,
    MXFP4 = 39,
    NVFP4 = 40,
}

/// <summary>The block of a tensor type: rows are whole blocks, a block holds so many elements in so many bytes.</summary>
/// <param name="Type">The type.</param>
/// <param name="BlockElements">Elements of a block.</param>
/// <param name="BlockBytes">Bytes of a block.</param>
/// <param name="IsComputable">Whether this library computes with it; the others can be listed, not loaded.</param>
public readonly record struct GgufTensorTypeInfo(GgufTensorType Type, int BlockElements, int BlockBytes, bool IsComputable)
{
    private static readonly Dictionary<GgufTensorType, GgufTensorTypeInfo> Table = new GgufTensorTypeInfo[]
    {
        new(GgufTensorType.F32, 1, 4, true),
        new(GgufTensorType.F16, 1, 2, true),
        new(GgufTensorType.BF16, 1, 2, true),
        new(GgufTensorType.Q8_0, 32, 34, true),
        new(GgufTensorType.Q4_0, 32, 18, true),
        new(GgufTensorType.Q4_1, 32, 20, true),
        new(GgufTensorType.Q5_0, 32, 22, false),
        new(GgufTensorType.Q5_1, 32, 24, false),
        new(GgufTensorType.Q8_1, 32, 36, false),
        new(GgufTensorType.Q2_K, 256, 84, false),
        new(GgufTensorType.Q3_K, 256, 110, false),
        new(GgufTensorType.Q4_K, 256, 144, false),
        new(GgufTensorType.Q5_K, 256, 176, false),
        new(GgufTensorType.Q6_K, 256, 210, false),
        new(GgufTensorType.Q8_K, 256, 292, false),
        new(GgufTensorType.IQ2_XXS, 256, 66, false),
        new(GgufTensorType.IQ2_XS, 256, 74, false),
        new(GgufTensorType.IQ3_XXS, 256, 98, false),
        new(GgufTensorType.IQ1_S, 256, 50, false),
        new(GgufTensorType.IQ4_NL, 32, 18, false),
        new(GgufTensorType.IQ3_S, 256, 110, false),
        new(GgufTensorType.IQ2_S, 256, 82, false),
        new(GgufTensorType.IQ4_XS, 256, 136, false),
        new(GgufTensorType.I8, 1, 1, false),
        new(GgufTensorType.I16, 1, 2, false),
        new(GgufTensorType.I32, 1, 4, false),
        new(GgufTensorType.I64, 1, 8, false),
        new(GgufTensorType.F64, 1, 8, false),
        new(GgufTensorType.IQ1_M, 256, 56, false),
        new(GgufTensorType.TQ1_0, 256, 54, false),
        new(GgufTensorType.TQ2_0, 256, 66, false),
        new(GgufTensorType.MXFP4, 32, 17, false),
        new(GgufTensorType.NVFP4, 64, 36, false),
    }.ToDictionary(info => info.Type);

    /// <summary>All types that can be listed, in the order of the table.</summary>
    public static IEnumerable<GgufTensorTypeInfo> All => Table.Values;

    /// <summary>The names of the types this library computes with, for messages.</summary>
    public static string ComputableNames => string.Join(", ", All.Where(info => info.IsComputable).Select(info => info.Type));

    /// <summary>Looks a type up; false for an id that the format did not define when this was written.</summary>
    public static bool TryGet(GgufTensorType type, out GgufTensorTypeInfo info) => Table.TryGetValue(type, out info);
}
