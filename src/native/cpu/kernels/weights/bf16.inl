// Weights as GGUF's BF16.
struct WeightBF16 {
    static constexpr int32_t kType = KC_TYPE_BF16;
    static constexpr int kBlock = 1;
    static constexpr int kBlockBytes = 2;
    static VecF lanes(const uint8_t* p, int i) { return load_bf16(p + 2 * i); }
    static VecF tail(const uint8_t* p, int n) { return load_bf16(p, n); }
};
