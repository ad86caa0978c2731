// Weights as GGUF's F16.
struct WeightF16 {
    static constexpr int32_t kType = KC_TYPE_F16;
    static constexpr int kBlock = 1;
    static constexpr int kBlockBytes = 2;
    static VecF lanes(const uint8_t* p, int i) { return load_f16(p + 2 * i); }
    static VecF tail(const uint8_t* p, int n) { return load_f16(p, n); }
};
