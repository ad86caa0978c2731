// f16 for single numbers, in code that is compiled for every machine. Rows go through the kernels' bodies.
#pragma once

#include <cstdint>
#include <cstring>

namespace kc {

inline float from_half(uint16_t h) {
    const uint32_t magnitude = h & 0x7fffu;
    uint32_t bits;
    float f;
    if (magnitude >= 0x7c00) {
        bits = 0x7f800000u | (magnitude & 0x3ffu) << 13;
    } else if (magnitude >= 0x400) {
        bits = (magnitude << 13) + 0x38000000u;
    } else {
        f = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
        std::memcpy(&bits, &f, 4);
    }
    bits |= static_cast<uint32_t>(h & 0x8000u) << 16;
    std::memcpy(&f, &bits, 4);
    return f;
}

// To nearest even; f at least 0, and held to the largest f16.
inline uint16_t to_half(float f) {
    uint32_t bits;
    if (!(f < 65504.f)) return 0x7bff;
    std::memcpy(&bits, &f, 4);
    if (bits < 0x38800000u) {
        f += 0.5f;
        std::memcpy(&bits, &f, 4);
        return static_cast<uint16_t>(bits - 0x3f000000u);
    }
    bits += 0xfffu + (bits >> 13 & 1);
    return static_cast<uint16_t>((bits - 0x38000000u) >> 13);
}

}  // namespace kc
