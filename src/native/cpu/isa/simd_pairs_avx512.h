// The part of the vector vocabulary that 8-bit keys need in AVX-512; simd_codes_scalar.h says what each function means.

typedef __m512i Ints;
constexpr int kIntLanes = 16;
constexpr int kPairHeads = 4;
inline Ints zero_ints() { return _mm512_setzero_si512(); }
inline void store_ints(float* p, Ints a) { _mm512_storeu_ps(p, _mm512_cvtepi32_ps(a)); }

typedef __m512i Pairs;
inline Pairs load_pairs(const void* p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
inline Pairs splat_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, 4);
    return _mm512_set1_epi32(pair);
}
inline Ints add_pairs(Ints sums, Pairs a, Pairs b) {
#if KC_VNNI
    return _mm512_dpwssd_epi32(sums, a, b);
#else
    return _mm512_add_epi32(sums, _mm512_madd_epi16(a, b));
#endif
}
