// Weights as GGUF's BF16.
struct WeightBF16 {
    static constexpr int32_t kType = KC_TYPE_BF16;
    static constexpr int kBlock = 1;
    static constexpr int kBlockBytes = 2;
    static VecF lanes(const uint8_t* row, int64_t col) { return load_bf16(row + 2 * col); }
    static VecF lanes(const uint8_t* row, int64_t col, int n) { return load_bf16(row + 2 * col, n); }
};
