// The part of the vector vocabulary that 8-bit keys and exact rows need, in registers of 256 bits, for AVX2 and
// AVX-512; simd_codes_scalar.h says what each function means.

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
