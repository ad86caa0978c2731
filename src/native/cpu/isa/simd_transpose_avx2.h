// How exact rows are turned, in registers of 256 bits, for AVX2 and AVX-512; simd_codes_scalar.h says what it means.

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
