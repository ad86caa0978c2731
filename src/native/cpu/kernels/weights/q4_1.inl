// Weights as GGUF's Q4_1: a block is an f16 scale, an f16 minimum and 32 nibbles; the low ones are the first 16
// weights.
struct WeightQ4_1 {
    static constexpr int32_t kType = KC_TYPE_Q4_1;
    static constexpr int kBlock = 32;
    static constexpr int kBlockBytes = 20;
    static VecF lanes(const uint8_t* block, int i) {
        const VecF nibbles = load_u4(block + 4 + i % 16, i >= 16);
        return add(mul(splat(half_at(block)), nibbles), splat(half_at(block + 2)));
    }

    static constexpr bool kSigned = false;
    static constexpr int kZero = 0;
    static constexpr bool kHasMinimum = true;
    static constexpr int kMinimumOffset = 2;
    static constexpr int kNibblesOffset = 4;
    static Bytes bytes(const uint8_t* block) { return load_nibbles(block + kNibblesOffset); }
};
