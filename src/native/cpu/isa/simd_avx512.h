// The vector vocabulary in AVX-512 (F, BW, VL, DQ; VNNI where KC_VNNI is 1); simd_scalar.h says what each function
// means. A block of 32 bytes fills half a register, so dot products of one stay in 256 bits.

constexpr int kLanes = 16;

typedef __m512 VecF;

inline VecF splat(float a) { return _mm512_set1_ps(a); }
inline VecF add(VecF a, VecF b) { return _mm512_add_ps(a, b); }
inline VecF sub(VecF a, VecF b) { return _mm512_sub_ps(a, b); }
inline VecF mul(VecF a, VecF b) { return _mm512_mul_ps(a, b); }
inline VecF div(VecF a, VecF b) { return _mm512_div_ps(a, b); }
inline VecF fma(VecF a, VecF b, VecF c) { return _mm512_fmadd_ps(a, b, c); }
inline VecF max(VecF a, VecF b) { return _mm512_max_ps(a, b); }
inline VecF min(VecF a, VecF b) { return _mm512_min_ps(a, b); }
inline VecF abs(VecF a) { return _mm512_abs_ps(a); }
inline float sqrt(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }

inline __mmask16 lane_mask(int n) { return static_cast<__mmask16>((1u << n) - 1); }
inline __m256i load_halves(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline __m256i load_halves(const void* p, int n) { return _mm256_maskz_loadu_epi16(lane_mask(n), p); }

inline VecF load(const float* p) { return _mm512_loadu_ps(p); }
inline VecF load(const float* p, int n) { return _mm512_maskz_loadu_ps(lane_mask(n), p); }
inline bool all_zero(VecF v) { return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ) == 0; }
inline void store(float* p, VecF v) { _mm512_storeu_ps(p, v); }
inline void store(float* p, VecF v, int n) { _mm512_mask_storeu_ps(p, lane_mask(n), v); }

inline float f16_to_f32(uint16_t h) { return _cvtsh_ss(h); }
inline uint16_t f32_to_f16(float f) { return static_cast<uint16_t>(_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT)); }
inline VecF load_f16(const void* p) { return _mm512_cvtph_ps(load_halves(p)); }
inline VecF load_f16(const void* p, int n) { return _mm512_cvtph_ps(load_halves(p, n)); }
inline void store_f16(void* p, VecF v) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
inline void store_f16(void* p, VecF v, int n) {
    _mm256_mask_storeu_epi16(p, lane_mask(n), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
inline VecF widen_bf16(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
inline VecF load_bf16(const void* p) { return widen_bf16(load_halves(p)); }
inline VecF load_bf16(const void* p, int n) { return widen_bf16(load_halves(p, n)); }

inline VecF load_i8(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void store_i8(int8_t* p, VecF v) {
    const __m512i wide = _mm512_cvtps_epi32(min(max(v, splat(-128.f)), splat(127.f)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(wide));
}

inline __m256 high_half(__m512 v) { return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)); }
inline float reduce_add(__m256 v) {
    const __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 b = _mm_hadd_ps(a, a);
    return _mm_cvtss_f32(_mm_hadd_ps(b, b));
}
inline float reduce_add(VecF v) { return reduce_add(_mm256_add_ps(_mm512_castps512_ps256(v), high_half(v))); }
inline float reduce_max(VecF v) {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), high_half(v));
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}

inline VecF round_even(VecF v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline VecF exp2_integer(VecF n) {
    const __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}
inline VecF zero_if_less(VecF a, VecF b, VecF value) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), value, _mm512_setzero_ps());
}
inline VecF choose(uint64_t lanes, VecF a, VecF b) { return _mm512_mask_blend_ps(static_cast<__mmask16>(lanes), b, a); }
inline uint32_t at_least(VecF a, VecF b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
inline void store_maxima4(float* p, VecF v) {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), high_half(v));
    _mm_storeu_ps(p, _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

inline VecF load_u4(const uint8_t* p, bool high) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_and_si128(high ? _mm_srli_epi16(bytes, 4) : bytes, _mm_set1_epi8(15))));
}

constexpr int kFloatTileTokens = 6;
constexpr int kByteTileTokens = 8;

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
inline void prefetch_once(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_NTA); }
