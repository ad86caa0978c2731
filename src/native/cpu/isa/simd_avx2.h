// The vector vocabulary in AVX2, FMA and F16C; simd_scalar.h says what each function means.

constexpr int kLanes = 8;

typedef __m256 VecF;

inline VecF splat(float a) { return _mm256_set1_ps(a); }
inline VecF add(VecF a, VecF b) { return _mm256_add_ps(a, b); }
inline VecF sub(VecF a, VecF b) { return _mm256_sub_ps(a, b); }
inline VecF mul(VecF a, VecF b) { return _mm256_mul_ps(a, b); }
inline VecF div(VecF a, VecF b) { return _mm256_div_ps(a, b); }
inline VecF fma(VecF a, VecF b, VecF c) { return _mm256_fmadd_ps(a, b, c); }
inline VecF max(VecF a, VecF b) { return _mm256_max_ps(a, b); }
inline VecF min(VecF a, VecF b) { return _mm256_min_ps(a, b); }
inline VecF abs(VecF a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.f), a); }
inline float sqrt(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }

inline __m256i lane_mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m128i load_halves(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m128i load_halves(const void* p, int n) {
    uint16_t h[8] = {};
    __builtin_memcpy(h, p, sizeof(uint16_t) * static_cast<size_t>(n));
    return load_halves(h);
}

inline VecF load(const float* p) { return _mm256_loadu_ps(p); }
inline VecF load(const float* p, int n) { return _mm256_maskload_ps(p, lane_mask(n)); }
inline bool all_zero(VecF v) { return _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ)) == 0; }
inline void store(float* p, VecF v) { _mm256_storeu_ps(p, v); }
inline void store(float* p, VecF v, int n) { _mm256_maskstore_ps(p, lane_mask(n), v); }

inline float f16_to_f32(uint16_t h) { return _cvtsh_ss(h); }
inline uint16_t f32_to_f16(float f) { return static_cast<uint16_t>(_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT)); }
inline VecF load_f16(const void* p) { return _mm256_cvtph_ps(load_halves(p)); }
inline VecF load_f16(const void* p, int n) { return _mm256_cvtph_ps(load_halves(p, n)); }
inline void store_f16(void* p, VecF v) {
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
inline void store_f16(void* p, VecF v, int n) {
    uint16_t h[8];
    store_f16(h, v);
    __builtin_memcpy(p, h, sizeof(uint16_t) * static_cast<size_t>(n));
}
inline VecF widen_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
inline VecF load_bf16(const void* p) { return widen_bf16(load_halves(p)); }
inline VecF load_bf16(const void* p, int n) { return widen_bf16(load_halves(p, n)); }

inline VecF load_i8(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline void store_i8(int8_t* p, VecF v) {
    const __m256i wide = _mm256_cvtps_epi32(min(max(v, splat(-128.f)), splat(127.f)));
    const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(half, half));
}

inline float reduce_add(VecF v) {
    const __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 b = _mm_hadd_ps(a, a);
    return _mm_cvtss_f32(_mm_hadd_ps(b, b));
}
inline float reduce_max(VecF v) {
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}

inline VecF round_even(VecF v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline VecF exp2_integer(VecF n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
inline VecF zero_if_less(VecF a, VecF b, VecF value) {
    return _mm256_andnot_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ), value);
}
inline VecF choose(uint64_t lanes, VecF a, VecF b) {
    const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int32_t>(lanes & 0xff)), bits);
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bits)));
}
inline uint32_t at_least(VecF a, VecF b) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
}
inline void store_maxima4(float* p, VecF v) {
    _mm_storeu_ps(p, _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}

inline VecF load_u4(const uint8_t* p, bool high) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return _mm256_cvtepi32_ps(high ? _mm256_srli_epi32(wide, 4) : _mm256_and_si256(wide, _mm256_set1_epi32(15)));
}

typedef struct EightRows TokenRows;

constexpr int kFloatTileTokens = 3;
constexpr int kByteTileTokens = 4;

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
inline void prefetch_once(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_NTA); }
