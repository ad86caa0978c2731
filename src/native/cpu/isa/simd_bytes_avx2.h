// Bytes and groups of eight rows in AVX2, which AVX-512 shares: a block of 32 weights fills 256 bits, whatever the ISA.
// KC_VNNI: with the dot products of bytes. simd_scalar.h says what each function means.

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
#if KC_VNNI
        return _mm256_dpbusd_epi32(_mm256_setzero_si256(), w, x);
#else
        // A pair sums to at most 2 * 128 * 127: maddubs cannot saturate.
        return _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1));
#endif
    }
}
inline __m256i row_mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
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
inline RowsF rows_load(const float* p, int n) { return _mm256_maskload_ps(p, row_mask(n)); }
inline void rows_store(float* p, RowsF v) { _mm256_storeu_ps(p, v); }
inline void rows_store(float* p, RowsF v, int n) { _mm256_maskstore_ps(p, row_mask(n), v); }
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

constexpr bool kInterleaves = true;
// With VNNI signed bytes become unsigned by adding 128.
constexpr int kInterleavedZero = KC_VNNI ? 128 : 0;
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
        __m256i lower = _mm256_permute2x128_si256(quads[k], quads[k + 4], 0x20);
        __m256i upper = _mm256_permute2x128_si256(quads[k], quads[k + 4], 0x31);
        if constexpr (kSigned && kInterleavedZero != 0) {
            lower = _mm256_xor_si256(lower, _mm256_set1_epi8(-128));
            upper = _mm256_xor_si256(upper, _mm256_set1_epi8(-128));
        }
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out) + k, lower);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out) + k + 4, upper);
    }
}
inline __m256i broadcast_quad(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, 4);
    return _mm256_set1_epi32(quad);
}
#if KC_VNNI
template <bool kSigned, int T>
inline void dot_interleaved(const uint8_t* w, const int8_t* x, int64_t x_stride, RowsI (&dots)[T]) {
    for (int t = 0; t < T; ++t) dots[t] = _mm256_setzero_si256();
    for (int k = 0; k < 8; ++k) {
        const __m256i v = load_bytes(w + 32 * k);
        for (int t = 0; t < T; ++t) {
            dots[t] = _mm256_dpbusd_epi32(dots[t], v, broadcast_quad(x + t * x_stride + 4 * k));
        }
    }
}
#else
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
#endif
