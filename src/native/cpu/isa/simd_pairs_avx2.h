// The part of the vector vocabulary that 8-bit keys need in AVX2; simd_codes_scalar.h says what each function means.

typedef __m256i Ints;
constexpr int kIntLanes = 8;
constexpr int kPairHeads = 2;
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
inline Ints add_pairs(Ints sums, Pairs a, Pairs b) { return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)); }
