// For machines without AVX-512: its intrinsics through SIMDe, and those that SIMDe 0.7.4 lacks in terms of AVX2.
// Included in place of <immintrin.h>, outside of any namespace.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#include <stdint.h>

namespace {

struct Halves512 {
    __m256i lo;
    __m256i hi;
};
inline Halves512 split512(__m512i v) {
    Halves512 h;
    __builtin_memcpy(&h, &v, sizeof h);
    return h;
}
inline __m512i join512(__m256i lo, __m256i hi) {
    const Halves512 h = {lo, hi};
    __m512i v;
    __builtin_memcpy(&v, &h, sizeof v);
    return v;
}
inline __m512 join512(__m256 lo, __m256 hi) {
    return _mm512_castsi512_ps(join512(_mm256_castps_si256(lo), _mm256_castps_si256(hi)));
}

inline __m512 emulated_mm512_cvtph_ps(__m256i h) {
    return join512(_mm256_cvtph_ps(_mm256_castsi256_si128(h)), _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)));
}
inline __m256i emulated_mm512_cvtps_ph(__m512 v) {
    const Halves512 h = split512(_mm512_castps_si512(v));
    return _mm256_set_m128i(_mm256_cvtps_ph(_mm256_castsi256_ps(h.hi), 0),
                            _mm256_cvtps_ph(_mm256_castsi256_ps(h.lo), 0));
}
inline __m512i emulated_mm512_cvtepu16_epi32(__m256i h) {
    return join512(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(h)),
                   _mm256_cvtepu16_epi32(_mm256_extracti128_si256(h, 1)));
}
inline __m512i emulated_mm512_cvtepi8_epi32(__m128i b) {
    return join512(_mm256_cvtepi8_epi32(b), _mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)));
}
inline __m512i emulated_mm512_cvtps_epi32(__m512 v) {
    const Halves512 h = split512(_mm512_castps_si512(v));
    return join512(_mm256_cvtps_epi32(_mm256_castsi256_ps(h.lo)), _mm256_cvtps_epi32(_mm256_castsi256_ps(h.hi)));
}
inline __m512 emulated_mm512_cvtepi32_ps(__m512i v) {
    const Halves512 h = split512(v);
    return join512(_mm256_cvtepi32_ps(h.lo), _mm256_cvtepi32_ps(h.hi));
}
inline __m512i emulated_mm512_srai_epi32(__m512i v, int n) {
    const Halves512 h = split512(v);
    return join512(_mm256_srai_epi32(h.lo, n), _mm256_srai_epi32(h.hi, n));
}
inline __m512i emulated_mm512_madd_epi16(__m512i a, __m512i b) {
    const Halves512 x = split512(a), y = split512(b);
    return join512(_mm256_madd_epi16(x.lo, y.lo), _mm256_madd_epi16(x.hi, y.hi));
}
// The upper two numbers of each four, twice: the one order that is used.
inline __m512i emulated_mm512_shuffle_epi32(__m512i v, int) {
    const Halves512 h = split512(v);
    return join512(_mm256_shuffle_epi32(h.lo, 0xee), _mm256_shuffle_epi32(h.hi, 0xee));
}
template <class Number, class Out>
inline Out narrow(__m512i v) {
    int32_t wide[16];
    Number numbers[16];
    __builtin_memcpy(wide, &v, sizeof v);
    for (int i = 0; i < 16; ++i) numbers[i] = static_cast<Number>(wide[i]);
    Out out;
    __builtin_memcpy(&out, numbers, sizeof out);
    return out;
}
inline __m256i emulated_mm512_cvtepi32_epi16(__m512i v) { return narrow<int16_t, __m256i>(v); }
inline __m128i emulated_mm512_cvtepi32_epi8(__m512i v) { return narrow<int8_t, __m128i>(v); }
inline int32_t emulated_mm512_reduce_add_epi32(__m512i v) {
    int32_t lanes[16], sum = 0;
    __builtin_memcpy(lanes, &v, sizeof v);
    for (const int32_t lane : lanes) sum += lane;
    return sum;
}
// Masks are those of a tail (the low lanes), so copying the first elements is all that is needed.
inline size_t n_tail_lanes(__mmask16 mask) { return static_cast<size_t>(__builtin_popcount(mask)); }
inline __m512 emulated_mm512_maskz_loadu_ps(__mmask16 mask, const void* p) {
    __m512 v = _mm512_setzero_ps();
    __builtin_memcpy(&v, p, 4 * n_tail_lanes(mask));
    return v;
}
inline void emulated_mm512_mask_storeu_ps(void* p, __mmask16 mask, __m512 v) {
    __builtin_memcpy(p, &v, 4 * n_tail_lanes(mask));
}
inline __m256i emulated_mm256_maskz_loadu_epi16(__mmask16 mask, const void* p) {
    __m256i v = _mm256_setzero_si256();
    __builtin_memcpy(&v, p, 2 * n_tail_lanes(mask));
    return v;
}
inline void emulated_mm256_mask_storeu_epi16(void* p, __mmask16 mask, __m256i v) {
    __builtin_memcpy(p, &v, 2 * n_tail_lanes(mask));
}

}  // namespace

// SIMDe gives intrinsics their names the same way: the compiler's own headers declare them, unusable, for any target.
#define _mm512_cvtph_ps emulated_mm512_cvtph_ps
#define _mm512_cvtepu16_epi32 emulated_mm512_cvtepu16_epi32
#define _mm512_cvtepi8_epi32 emulated_mm512_cvtepi8_epi32
#define _mm512_cvtps_epi32 emulated_mm512_cvtps_epi32
#define _mm512_cvtepi32_ps emulated_mm512_cvtepi32_ps
#define _mm512_srai_epi32 emulated_mm512_srai_epi32
#define _mm512_shuffle_epi32 emulated_mm512_shuffle_epi32
#define _mm512_cvtepi32_epi16 emulated_mm512_cvtepi32_epi16
#define _mm512_cvtepi32_epi8 emulated_mm512_cvtepi32_epi8
#define _mm512_reduce_add_epi32 emulated_mm512_reduce_add_epi32
#undef _mm512_madd_epi16
#define _mm512_madd_epi16 emulated_mm512_madd_epi16
#define _mm512_maskz_loadu_ps emulated_mm512_maskz_loadu_ps
#define _mm512_mask_storeu_ps emulated_mm512_mask_storeu_ps
#define _mm256_maskz_loadu_epi16 emulated_mm256_maskz_loadu_epi16
#define _mm256_mask_storeu_epi16 emulated_mm256_mask_storeu_epi16
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(v, rounding) emulated_mm512_cvtps_ph(v)
