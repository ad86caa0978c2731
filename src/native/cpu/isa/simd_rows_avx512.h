// What one token meets at a time in AVX-512: 16 rows of weights, two blocks of signed bytes or four of nibbles in a
// register. Included behind simd_avx512.h; EightRows of matmul_bytes.inl says what the members mean.

struct SixteenRows {
    typedef __m512 F;
    static constexpr int kRows = 16;
    // With VNNI signed bytes become unsigned by adding 128.
    static constexpr int kSignedZero = KC_VNNI ? 128 : 0;
    static F splat(float a) { return _mm512_set1_ps(a); }
    static F load_f16(const uint8_t* const* rows, int64_t offset) {
        // Words that begin with the f16: a block goes on behind it.
        const auto word = [=](int r) {
            int32_t w;
            __builtin_memcpy(&w, rows[r] + offset, 4);
            return w;
        };
        const __m512i words =
            _mm512_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7), word(8), word(9),
                              word(10), word(11), word(12), word(13), word(14), word(15));
        return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
    }
    // Signed bytes: two rows in a register, 4 apart, so that the sums end up in order.
    template <class W>
    static __m512i dots_of_halves(const uint8_t* const* rows, int64_t offset, Bytes x) {
        __m512i v[8];
        for (int i = 0; i < 8; ++i) {
            const int r = i < 4 ? i : i + 4;
            const Bytes low = W::bytes(rows[r] + offset), high = W::bytes(rows[r + 4] + offset);
#if KC_VNNI
            __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
            both = _mm512_xor_si512(both, _mm512_set1_epi8(-128));
            v[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), both, _mm512_broadcast_i64x4(x));
#else
            v[i] = _mm512_inserti64x4(_mm512_castsi256_si512(multiply_bytes_exactly<true>(low, x)),
                                      multiply_bytes_exactly<true>(high, x), 1);
#endif
        }
        const __m512i a = sum_quarters(v), b = sum_quarters(v + 4);
        return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
    }
    // Nibbles: four rows in a register, 4 apart; the low nibbles meet one half of x, the high ones the other.
    template <class W>
    static __m512i dots_of_nibbles(const uint8_t* const* rows, int64_t offset, Bytes x) {
        const auto quarter = [=](int r) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + offset + W::kNibblesOffset));
        };
        const __m512i mask = _mm512_set1_epi8(15);
        const __m512i low_x = _mm512_broadcast_i32x4(_mm256_castsi256_si128(x));
        const __m512i high_x = _mm512_broadcast_i32x4(_mm256_extracti128_si256(x, 1));
        __m512i v[4];
        for (int r = 0; r < 4; ++r) {
            __m512i four = _mm512_castsi128_si512(quarter(r));
            four = _mm512_inserti32x4(four, quarter(r + 4), 1);
            four = _mm512_inserti32x4(four, quarter(r + 8), 2);
            four = _mm512_inserti32x4(four, quarter(r + 12), 3);
            const __m512i low = _mm512_and_si512(four, mask), high = _mm512_and_si512(_mm512_srli_epi16(four, 4), mask);
#if KC_VNNI
            v[r] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), low, low_x), high, high_x);
#else
            // Four products sum to at most 4 * 15 * 127, within 16 bits.
            const __m512i pairs =
                _mm512_add_epi16(_mm512_maddubs_epi16(low, low_x), _mm512_maddubs_epi16(high, high_x));
            v[r] = _mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#endif
        }
        return sum_quarters(v);
    }
    // In every quarter, the sums of the quarters of v[0] to v[3], side by side.
    static __m512i sum_quarters(const __m512i* v) {
        const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
        const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
        return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    }
    template <class W>
    static __m512i dots(const uint8_t* const* rows, int64_t offset, Bytes x) {
        if constexpr (W::kSigned)
            return dots_of_halves<W>(rows, offset, x);
        else
            return dots_of_nibbles<W>(rows, offset, x);
    }
    static void store(float* p, F sums) { _mm512_storeu_ps(p, sums); }
};
typedef SixteenRows TokenRows;
inline __m512 rows_mul(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
inline __m512 rows_fma(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
inline __m512i rows_sub(__m512i a, int32_t b) { return _mm512_sub_epi32(a, _mm512_set1_epi32(b)); }
inline __m512 rows_convert(__m512i a) { return _mm512_cvtepi32_ps(a); }
