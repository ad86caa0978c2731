// The types of weights, as they lie in GGUF files: a row's bytes, and one weight of it. Block types hold 32 weights.
// Rows need no alignment, so everything wider than a byte is put together from bytes or halves of known alignment.
#pragma once

#include <type_traits>

#include "core/error.h"
#include "core/params.h"
#include "device/half.h"

namespace kc::cuda {

constexpr int kBlockWeights = 32;

template <int kType>
constexpr int kBlockBytes = kType == KC_TYPE_Q8_0   ? 34
                            : kType == KC_TYPE_Q4_0 ? 18
                            : kType == KC_TYPE_Q4_1 ? 20
                                                    : 0;
template <int kType>
constexpr bool kIsBlocked = kBlockBytes<kType> != 0;

template <int kType>
__host__ __device__ constexpr int64_t row_bytes(int64_t n_cols) {
    if (kIsBlocked<kType>) return n_cols / kBlockWeights * kBlockBytes<kType>;
    return n_cols * (kType == KC_TYPE_F32 ? 4 : 2);
}

__device__ __forceinline__ uint16_t load_u16(const uint8_t* p) {
    if ((reinterpret_cast<uintptr_t>(p) & 1) == 0) return *reinterpret_cast<const uint16_t*>(p);
    return static_cast<uint16_t>(p[0] | p[1] << 8);
}
// Bytes as they lie in memory, the first lowest.
__device__ __forceinline__ uint32_t load_u32(const uint8_t* p) {
    if ((reinterpret_cast<uintptr_t>(p) & 3) == 0) return *reinterpret_cast<const uint32_t*>(p);
    return load_u16(p) | static_cast<uint32_t>(load_u16(p + 2)) << 16;
}

template <int kType>
__device__ __forceinline__ float weight_at(const uint8_t* row, int64_t c) {
    if constexpr (kType == KC_TYPE_F32) return __uint_as_float(load_u32(row + 4 * c));
    if constexpr (kType == KC_TYPE_F16) return from_half(load_u16(row + 2 * c));
    if constexpr (kType == KC_TYPE_BF16) return from_bfloat(load_u16(row + 2 * c));
    const uint8_t* block = row + c / kBlockWeights * kBlockBytes<kType>;
    const int i = static_cast<int>(c % kBlockWeights);
    const float scale = from_half(load_u16(block));
    if constexpr (kType == KC_TYPE_Q8_0) return scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
    const uint8_t* nibbles = block + (kType == KC_TYPE_Q4_1 ? 4 : 2);
    const float level = static_cast<float>(i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4);
    if constexpr (kType == KC_TYPE_Q4_1) return fmaf(scale, level, from_half(load_u16(block + 2)));
    return scale * (level - 8.f);
}

// Calls f with the type as a constant.
template <class F>
void for_weight_type(int32_t type, F&& f) {
    switch (type) {
        case KC_TYPE_F32:
            return f(std::integral_constant<int, KC_TYPE_F32>());
        case KC_TYPE_F16:
            return f(std::integral_constant<int, KC_TYPE_F16>());
        case KC_TYPE_BF16:
            return f(std::integral_constant<int, KC_TYPE_BF16>());
        case KC_TYPE_Q8_0:
            return f(std::integral_constant<int, KC_TYPE_Q8_0>());
        case KC_TYPE_Q4_0:
            return f(std::integral_constant<int, KC_TYPE_Q4_0>());
        case KC_TYPE_Q4_1:
            return f(std::integral_constant<int, KC_TYPE_Q4_1>());
        default:
            fail(KC_ERR_UNSUPPORTED, "weights of type %d are not offered by the CUDA backend", type);
    }
}

}  // namespace kc::cuda
