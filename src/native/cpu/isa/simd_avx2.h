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

typedef __m256i Bytes;

inline Bytes load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline Bytes load_nibbles(const void* p) {
    const __m128i packed = _mm_loadu_si128(static_cast<const __m128i*>(p));
    const __m256i both = _mm256_set_m128i(_mm_srli_epi16(packed, 4), packed);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}
// The products summed by fours: 8 exact partial sums.
template <bool kSigned>
inline __m256i multiply_bytes_exactly(Bytes w, Bytes x) {
    if constexpr (kSigned) {
        // |w| as unsigned bytes (128 included), its sign moved over to x.
        return multiply_bytes_exactly<false>(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    } else {
        // A pair sums to at most 2 * 128 * 127: maddubs cannot saturate.
        return _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1));
    }
}
inline VecF load_u4(const uint8_t* p, bool high) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return _mm256_cvtepi32_ps(high ? _mm256_srli_epi32(wide, 4) : _mm256_and_si256(wide, _mm256_set1_epi32(15)));
}

typedef __m256 RowsF;
typedef __m256i RowsI;

inline RowsF rows_splat(float a) { return _mm256_set1_ps(a); }
inline RowsF rows_add(RowsF a, RowsF b) { return _mm256_add_ps(a, b); }
inline RowsF rows_mul(RowsF a, RowsF b) { return _mm256_mul_ps(a, b); }
inline RowsF rows_fma(RowsF a, RowsF b, RowsF c) { return _mm256_fmadd_ps(a, b, c); }
inline RowsI rows_sub(RowsI a, int32_t b) { return _mm256_sub_epi32(a, _mm256_set1_epi32(b)); }
inline RowsF rows_convert(RowsI a) { return _mm256_cvtepi32_ps(a); }
inline RowsF rows_load(const float* p) { return _mm256_loadu_ps(p); }
inline RowsF rows_load(const float* p, int n) { return _mm256_maskload_ps(p, lane_mask(n)); }
inline void rows_store(float* p, RowsF v) { _mm256_storeu_ps(p, v); }
inline void rows_store(float* p, RowsF v, int n) { _mm256_maskstore_ps(p, lane_mask(n), v); }
inline RowsF rows_load_f16(const uint8_t* const* rows, int64_t offset) {
    const auto half = [=](int r) {
        int16_t h;
        __builtin_memcpy(&h, rows[r] + offset, 2);
        return h;
    };
    return _mm256_cvtph_ps(_mm_set_epi16(half(7), half(6), half(5), half(4), half(3), half(2), half(1), half(0)));
}
template <class W>
inline RowsI dot_rows(const uint8_t* const* rows, int64_t offset, Bytes x) {
    __m256i d[8];
    for (int r = 0; r < 8; ++r) d[r] = multiply_bytes_exactly<W::kSigned>(W::bytes(rows[r] + offset), x);
    const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(d[0], d[1]), _mm256_hadd_epi32(d[2], d[3]));
    const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(d[4], d[5]), _mm256_hadd_epi32(d[6], d[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

typedef struct EightRows TokenRows;

constexpr bool kInterleaves = true;
constexpr int kInterleavedZero = 0;
template <bool kSigned>
inline void store_interleaved(const Bytes (&rows)[8], uint8_t* out) {
    __m256i pairs[8];
    for (int i = 0; i < 4; ++i) {
        pairs[i] = _mm256_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[i + 4] = _mm256_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // quads[k], k < 4: columns 4k of the lower half of the block and of the upper, rows 0 to 3; quads[k + 4]: rows 4
    // to 7.
    __m256i quads[8];
    for (int i = 0; i < 2; ++i) {
        quads[4 * i] = _mm256_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]);
        quads[4 * i + 1] = _mm256_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]);
        quads[4 * i + 2] = _mm256_unpacklo_epi64(pairs[2 * i + 4], pairs[2 * i + 5]);
        quads[4 * i + 3] = _mm256_unpackhi_epi64(pairs[2 * i + 4], pairs[2 * i + 5]);
    }
    for (int k = 0; k < 4; ++k) {
        const __m256i lower = _mm256_permute2x128_si256(quads[k], quads[k + 4], 0x20);
        const __m256i upper = _mm256_permute2x128_si256(quads[k], quads[k + 4], 0x31);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out) + k, lower);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out) + k + 4, upper);
    }
}
inline __m256i broadcast_quad(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, 4);
    return _mm256_set1_epi32(quad);
}
template <bool kSigned, int T>
inline void dot_interleaved(const uint8_t* w, const int8_t* x, int64_t x_stride, RowsI (&dots)[T]) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int t = 0; t < T; ++t) dots[t] = _mm256_setzero_si256();
    for (int k = 0; k < 8; ++k) {
        const __m256i v = load_bytes(w + 32 * k);
        if constexpr (kSigned) {
            const __m256i magnitude = _mm256_abs_epi8(v);
            for (int t = 0; t < T; ++t) {
                const __m256i signed_x = _mm256_sign_epi8(broadcast_quad(x + t * x_stride + 4 * k), v);
                dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, signed_x), ones));
            }
        } else {
            // Nibbles: 8 pairs sum to at most 8 * 2 * 15 * 127, within 16 bits.
            for (int t = 0; t < T; ++t) {
                dots[t] = _mm256_add_epi16(dots[t], _mm256_maddubs_epi16(v, broadcast_quad(x + t * x_stride + 4 * k)));
            }
        }
    }
    if constexpr (!kSigned) {
        for (int t = 0; t < T; ++t) dots[t] = _mm256_madd_epi16(dots[t], ones);
    }
}

constexpr int kFloatTileTokens = 3;
constexpr int kByteTileTokens = 4;

inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
