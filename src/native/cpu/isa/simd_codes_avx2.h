// The part of the vector vocabulary that coded rows need in AVX2; simd_codes_scalar.h says what each function means.

typedef __m256i Codes;
constexpr int kCodeBytes = 32;
constexpr int kUnitParts = 64 / kCodeBytes;
constexpr int kTileHeads = 3;
inline Codes load_codes(const void* p) { return load_bytes(p); }
inline void store_codes(void* p, Codes b) { _mm256_storeu_si256(static_cast<__m256i*>(p), b); }
inline Codes bits_of(Codes b, int shift, int mask) {
    return _mm256_and_si256(_mm256_srli_epi16(b, shift), _mm256_set1_epi8(static_cast<char>(mask)));
}
inline Codes with_high_bit(Codes low, Codes high) { return _mm256_or_si256(low, _mm256_slli_epi16(high, 2)); }
inline Codes load_table(const int8_t* table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}
inline Codes look_up(Codes codes, Codes table) { return _mm256_shuffle_epi8(table, codes); }

struct Quads {
    __m256i numbers;
    __m256i magnitudes;
};
inline Quads splat_quad(const int8_t* p) {
    const __m256i numbers = broadcast_quad(p);
    return {numbers, _mm256_abs_epi8(numbers)};
}
constexpr int32_t kQuadBias = 0;
constexpr int kUnitTile = 2;
inline Ints zero_quads() { return zero_ints(); }
inline Ints add_quads(Ints sums, Codes levels, Quads q) {
    // A pair sums to at most 2 * 127 * 127: maddubs cannot saturate.
    const __m256i pairs = _mm256_maddubs_epi16(q.magnitudes, _mm256_sign_epi8(levels, q.numbers));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
constexpr int kQuadVectors = 1;
inline void convert_quads(Ints sums, int32_t less, VecF (&out)[kQuadVectors]) {
    out[0] = _mm256_cvtepi32_ps(subtract(sums, less));
}

constexpr float kWeightSteps = 127 * 256 + 127;
constexpr int32_t kWeightedBias = 0;
constexpr int kWeightedPages = 4;
// Tokens 0 and 2, 1 and 3.
struct WeightQuad {
    int32_t first;
    int32_t second;
};
struct PackedSums {};
struct WeightedBias {};
inline PackedSums zero_packed() { return {}; }
inline WeightedBias weighted_bias(const PackedSums&) { return {}; }
inline void pack_weights(const float* weights, VecF inverse, WeightQuad* out, PackedSums&) {
    for (int i = 0; i < 8; ++i) {
        const __m256i w = _mm256_cvtps_epi32(mul(load(weights + i * kLanes), inverse));
        const __m256i behind = _mm256_slli_epi32(_mm256_shuffle_epi32(w, 0xee), 16);
        const __m256i packed = _mm256_permute4x64_epi64(_mm256_or_si256(w, behind), 0x08);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i), _mm256_castsi256_si128(packed));
    }
}
struct WeightedLevels {
    __m256i even;
    __m256i odd;
};
inline WeightedLevels prepare_levels(Codes levels) {
    return {_mm256_srai_epi16(_mm256_slli_epi16(levels, 8), 8), _mm256_srai_epi16(levels, 8)};
}
typedef __m256i WeightedSums;
constexpr int kWeightedTile = 1;
inline WeightedSums zero_weighted() { return _mm256_setzero_si256(); }
inline void add_weighted(WeightedSums& sums, WeightedLevels levels, const WeightQuad& w) {
    const __m256i even = _mm256_madd_epi16(levels.even, _mm256_set1_epi32(w.first));
    const __m256i odd = _mm256_madd_epi16(levels.odd, _mm256_set1_epi32(w.second));
    sums = _mm256_add_epi32(sums, _mm256_add_epi32(even, odd));
}
inline void add_total(float* p, WeightedSums sums, WeightedBias, float unit) {
    _mm256_storeu_ps(p, _mm256_fmadd_ps(_mm256_set1_ps(unit), _mm256_cvtepi32_ps(sums), _mm256_loadu_ps(p)));
}
