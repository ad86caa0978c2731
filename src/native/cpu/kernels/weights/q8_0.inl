// Weights as GGUF's Q8_0: a block is an f16 scale and 32 signed bytes.
struct WeightQ8_0 {
    static constexpr int32_t kType = KC_TYPE_Q8_0;
    static constexpr int kBlock = 32;
    static constexpr int kBlockBytes = 34;
    static VecF lanes(const uint8_t* block, int i) {
        return mul(splat(half_at(block)), load_i8(reinterpret_cast<const int8_t*>(block + 2) + i));
    }

    // The block as bytes: weight = scale * (byte - kZero) (+ minimum).
    static constexpr bool kSigned = true;
    static constexpr int kZero = 0;
    static constexpr bool kHasMinimum = false;
    static Bytes bytes(const uint8_t* block) { return load_bytes(block + 2); }
};
