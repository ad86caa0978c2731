// The part of the vector vocabulary that coded rows need, in registers of 256 bits, for AVX2 and AVX-512;
// simd_codes_scalar.h says what each function means.

inline Bytes bits_of(Bytes b, int shift, int mask) {
    return _mm256_and_si256(_mm256_srli_epi16(b, shift), _mm256_set1_epi8(static_cast<char>(mask)));
}
inline Bytes with_high_bit(Bytes low, Bytes high) { return _mm256_or_si256(low, _mm256_slli_epi16(high, 2)); }
inline Bytes look_up(Bytes codes, const int8_t* table) {
    const __m128i once = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(once), codes);
}
inline void store_bytes(void* p, Bytes b) { _mm256_storeu_si256(static_cast<__m256i*>(p), b); }

typedef __m256i Ints;
inline Ints zero_ints() { return _mm256_setzero_si256(); }
inline void store_ints(float* p, Ints a) { _mm256_storeu_ps(p, _mm256_cvtepi32_ps(a)); }
inline Ints subtract(Ints a, int32_t b) { return _mm256_sub_epi32(a, _mm256_set1_epi32(b)); }

typedef __m256i Pairs;
inline Pairs load_pairs(const void* p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
inline Pairs splat_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, 4);
    return _mm256_set1_epi32(pair);
}
inline Ints add_pairs(Ints sums, Pairs a, Pairs b) {
#if KC_VNNI
    return _mm256_dpwssd_epi32(sums, a, b);
#else
    return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));
#endif
}

#if KC_VNNI
typedef __m256i Quads;
inline Quads splat_quad(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, 4);
    return _mm256_set1_epi32(quad);
}
// Levels are made unsigned by adding 128.
constexpr int32_t kQuadBias = 128;
inline Ints add_quads(Ints sums, Bytes levels, Quads q) {
    return _mm256_dpbusd_epi32(sums, _mm256_xor_si256(levels, _mm256_set1_epi8(-128)), q);
}
#else
struct Quads {
    __m256i numbers;
    __m256i magnitudes;
};
inline Quads splat_quad(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, 4);
    const __m256i numbers = _mm256_set1_epi32(quad);
    return {numbers, _mm256_abs_epi8(numbers)};
}
constexpr int32_t kQuadBias = 0;
inline Ints add_quads(Ints sums, Bytes levels, Quads q) {
    // A pair sums to at most 2 * 127 * 127: maddubs cannot saturate.
    const __m256i pairs = _mm256_maddubs_epi16(q.magnitudes, _mm256_sign_epi8(levels, q.numbers));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif

inline void transpose_f16(const uint8_t* rows, int64_t row_bytes, float* out) {
    __m256 r[8];
    for (int t = 0; t < 8; ++t) {
        r[t] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + t * row_bytes)));
    }
    __m256 pairs[8];
    for (int i = 0; i < 4; ++i) {
        pairs[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    // quads[k], k < 4: numbers k and k + 4 of rows 0 to 3; quads[k + 4]: of rows 4 to 7.
    __m256 quads[8];
    for (int i = 0; i < 2; ++i) {
        quads[4 * i] = _mm256_shuffle_ps(pairs[4 * i], pairs[4 * i + 2], 0x44);
        quads[4 * i + 1] = _mm256_shuffle_ps(pairs[4 * i], pairs[4 * i + 2], 0xee);
        quads[4 * i + 2] = _mm256_shuffle_ps(pairs[4 * i + 1], pairs[4 * i + 3], 0x44);
        quads[4 * i + 3] = _mm256_shuffle_ps(pairs[4 * i + 1], pairs[4 * i + 3], 0xee);
    }
    for (int k = 0; k < 4; ++k) {
        _mm256_storeu_ps(out + k * 64, _mm256_permute2f128_ps(quads[k], quads[k + 4], 0x20));
        _mm256_storeu_ps(out + (k + 4) * 64, _mm256_permute2f128_ps(quads[k], quads[k + 4], 0x31));
    }
}
