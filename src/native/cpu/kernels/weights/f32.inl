// Weights as GGUF's F32.
struct WeightF32 {
    static constexpr int32_t kType = KC_TYPE_F32;
    static constexpr int kBlock = 1;
    static constexpr int kBlockBytes = 4;
    // kLanes weights from element i behind p, or the n first of them.
    static VecF lanes(const uint8_t* p, int i) { return load(reinterpret_cast<const float*>(p) + i); }
    static VecF tail(const uint8_t* p, int n) { return load(reinterpret_cast<const float*>(p), n); }
};
