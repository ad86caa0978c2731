// Weights as GGUF's F32.
struct WeightF32 {
    static constexpr int32_t kType = KC_TYPE_F32;
    static constexpr int kBlock = 1;
    static constexpr int kBlockBytes = 4;
    // kLanes weights from column `col`, or the n first of them.
    static VecF lanes(const uint8_t* row, int64_t col) { return load(reinterpret_cast<const float*>(row + 4 * col)); }
    static VecF lanes(const uint8_t* row, int64_t col, int n) {
        return load(reinterpret_cast<const float*>(row + 4 * col), n);
    }
};
