// The part of the vector vocabulary that coded rows need in AVX-512, where a register is a unit; simd_codes_scalar.h
// says what each function means.

typedef __m512i Codes;
constexpr int kCodeBytes = 64;
constexpr int kUnitParts = 64 / kCodeBytes;
constexpr int kTileHeads = 4;
inline Codes load_codes(const void* p) { return _mm512_loadu_si512(p); }
inline void store_codes(void* p, Codes b) { _mm512_storeu_si512(p, b); }
inline Codes bits_of(Codes b, int shift, int mask) {
    return _mm512_and_si512(_mm512_srli_epi16(b, static_cast<unsigned>(shift)),
                            _mm512_set1_epi8(static_cast<char>(mask)));
}
inline Codes with_high_bit(Codes low, Codes high) { return _mm512_or_si512(low, _mm512_slli_epi16(high, 2)); }
inline Codes load_table(const int8_t* table) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}
inline Codes look_up(Codes codes, Codes table) { return _mm512_shuffle_epi8(table, codes); }

typedef __m512i Quads;
inline Quads splat_quad(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, 4);
    return _mm512_set1_epi32(quad);
}
constexpr int kUnitTile = 4;
inline __m512i zero_quads() { return _mm512_setzero_si512(); }
#if KC_VNNI
// Levels are made unsigned by adding 128.
constexpr int32_t kQuadBias = 128;
inline __m512i add_quads(__m512i sums, Codes levels, Quads q) { return _mm512_dpbusd_epi32(sums, levels, q); }
#else
constexpr int32_t kQuadBias = 0;
inline __m512i add_quads(__m512i sums, Codes levels, Quads q) {
    // A pair sums to at most 2 * 127 * 127: maddubs cannot saturate.
    const __m512i turned = _mm512_mask_sub_epi8(levels, _mm512_movepi8_mask(q), _mm512_setzero_si512(), levels);
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(q), turned);
    return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif
constexpr int kQuadVectors = 1;
inline void convert_quads(__m512i sums, int32_t less, VecF (&out)[kQuadVectors]) {
    out[0] = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, _mm512_set1_epi32(less)));
}

constexpr float kWeightSteps = 127 * 256 + 127;
// With VNNI the high and the low signed bytes of 4 weights, w = 256 * first + second; else tokens 0 and 2, 1 and 3.
struct WeightQuad {
    int32_t first;
    int32_t second;
};
#if KC_VNNI
// Levels are made unsigned by adding 128.
constexpr int32_t kWeightedBias = 128;
constexpr int kWeightedPages = 16;
struct PackedSums {
    __m512i all;
    __m512i high;
};
struct WeightedBias {
    int32_t high;
    int32_t low;
};
inline PackedSums zero_packed() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
inline WeightedBias weighted_bias(const PackedSums& sums) {
    const int32_t all = _mm512_reduce_add_epi32(sums.all), high = _mm512_reduce_add_epi32(sums.high);
    return {kWeightedBias * high, kWeightedBias * (all - 256 * high)};
}
inline void pack_weights(const float* weights, VecF inverse, WeightQuad* out, PackedSums& sums) {
    for (int i = 0; i < 4; ++i) {
        const __m512i w = _mm512_cvtps_epi32(mul(load(weights + i * kLanes), inverse));
        const __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(w, _mm512_set1_epi32(128)), 8);
        sums.all = _mm512_add_epi32(sums.all, w);
        sums.high = _mm512_add_epi32(sums.high, upper);
        const __m128i high = _mm512_cvtepi32_epi8(upper);
        const __m128i low = _mm512_cvtepi32_epi8(w);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 4 * i), _mm_unpacklo_epi32(high, low));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 4 * i + 2), _mm_unpackhi_epi32(high, low));
    }
}
typedef Codes WeightedLevels;
inline WeightedLevels prepare_levels(Codes levels) { return levels; }
struct WeightedSums {
    __m512i high;
    __m512i low;
};
// Two registers of dimensions side by side hide the latency of the sums.
constexpr int kWeightedTile = 2;
inline WeightedSums zero_weighted() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
inline void add_weighted(WeightedSums& sums, WeightedLevels levels, const WeightQuad& w) {
    sums.high = _mm512_dpbusd_epi32(sums.high, levels, _mm512_set1_epi32(w.first));
    sums.low = _mm512_dpbusd_epi32(sums.low, levels, _mm512_set1_epi32(w.second));
}
inline void add_total(float* p, const WeightedSums& sums, const WeightedBias& bias, float unit) {
    // 256 * high would not fit.
    const __m512 high = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums.high, _mm512_set1_epi32(bias.high)));
    const __m512 low = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums.low, _mm512_set1_epi32(bias.low)));
    const __m512 total = _mm512_fmadd_ps(_mm512_set1_ps(256.f), high, low);
    _mm512_storeu_ps(p, _mm512_fmadd_ps(_mm512_set1_ps(unit), total, _mm512_loadu_ps(p)));
}
#else
constexpr int32_t kWeightedBias = 0;
constexpr int kWeightedPages = 4;
struct PackedSums {};
struct WeightedBias {};
inline PackedSums zero_packed() { return {}; }
inline WeightedBias weighted_bias(const PackedSums&) { return {}; }
inline void pack_weights(const float* weights, VecF inverse, WeightQuad* out, PackedSums&) {
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6);
    for (int i = 0; i < 4; ++i) {
        const __m512i w = _mm512_cvtps_epi32(mul(load(weights + i * kLanes), inverse));
        const __m512i behind = _mm512_slli_epi32(_mm512_shuffle_epi32(w, static_cast<_MM_PERM_ENUM>(0xee)), 16);
        const __m512i packed = _mm512_permutexvar_epi64(order, _mm512_or_si512(w, behind));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * i), _mm512_castsi512_si256(packed));
    }
}
struct WeightedLevels {
    __m512i even;
    __m512i odd;
};
inline WeightedLevels prepare_levels(Codes levels) {
    return {_mm512_srai_epi16(_mm512_slli_epi16(levels, 8), 8), _mm512_srai_epi16(levels, 8)};
}
typedef __m512i WeightedSums;
constexpr int kWeightedTile = 1;
inline WeightedSums zero_weighted() { return _mm512_setzero_si512(); }
inline void add_weighted(WeightedSums& sums, WeightedLevels levels, const WeightQuad& w) {
    const __m512i even = _mm512_madd_epi16(levels.even, _mm512_set1_epi32(w.first));
    const __m512i odd = _mm512_madd_epi16(levels.odd, _mm512_set1_epi32(w.second));
    sums = _mm512_add_epi32(sums, _mm512_add_epi32(even, odd));
}
inline void add_total(float* p, __m512i sums, WeightedBias, float unit) {
    _mm512_storeu_ps(p, _mm512_fmadd_ps(_mm512_set1_ps(unit), _mm512_cvtepi32_ps(sums), _mm512_loadu_ps(p)));
}
#endif
