// Half precision, as far as kernels here use it: storage and conversion; all arithmetic is done in float.
#pragma once

#include "cuda_runtime.h"

struct __half {
    uint16_t bits;
};
struct alignas(4) __half2 {
    __half x, y;
};
using half = __half;
using half2 = __half2;

inline __half __ushort_as_half(unsigned short x) { return {x}; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }

inline float __half2float(__half h) {
    const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000) << 16, magnitude = h.bits & 0x7fff;
    if (magnitude >= 0x7c00) return __uint_as_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    if (magnitude >= 0x400) return __uint_as_float(sign | ((magnitude << 13) + 0x38000000));
    const float subnormal = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
    return sign ? -subnormal : subnormal;
}
// Round to nearest even; too large becomes infinity.
inline __half __float2half_rn(float f) {
    uint32_t bits = __float_as_uint(f);
    const uint32_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return {0x7fff};
    if (bits >= 0x47800000) return {static_cast<uint16_t>(sign | 0x7c00)};
    if (bits < 0x38800000) {
        // Adding 0.5 leaves the result, rounded to 2^-24, in the low bits of the sum.
        return {static_cast<uint16_t>(sign | (__float_as_uint(__uint_as_float(bits) + 0.5f) - 0x3f000000))};
    }
    bits += 0xfff + (bits >> 13 & 1);
    return {static_cast<uint16_t>(sign | (bits - 0x38000000) >> 13)};
}
inline __half __float2half(float f) { return __float2half_rn(f); }
inline float2 __half22float2(__half2 h) { return {__half2float(h.x), __half2float(h.y)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
