// Weights as GGUF's F16.
struct WeightF16 {
    static constexpr int32_t kType = KC_TYPE_F16;
    static constexpr int kBlock = 1;
    static constexpr int kBlockBytes = 2;
    static VecF lanes(const uint8_t* row, int64_t col) { return load_f16(row + 2 * col); }
    static VecF lanes(const uint8_t* row, int64_t col, int n) { return load_f16(row + 2 * col, n); }
};
