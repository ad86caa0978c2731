// Weights as GGUF's Q4_0: a block is an f16 scale and 32 nibbles; the low ones are the first 16 weights.
struct WeightQ4_0 {
    static constexpr int32_t kType = KC_TYPE_Q4_0;
    static constexpr int kBlock = 32;
    static constexpr int kBlockBytes = 18;
    static VecF lanes(const uint8_t* block, int i) {
        return mul(splat(half_at(block)), sub(load_u4(block + 2 + i % 16, i >= 16), splat(8.f)));
    }

    static constexpr bool kSigned = false;
    static constexpr int kZero = 8;
    static constexpr bool kHasMinimum = false;
    static constexpr int kNibblesOffset = 2;
    static Bytes bytes(const uint8_t* block) { return load_nibbles(block + kNibblesOffset); }
};
