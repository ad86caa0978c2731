// How a row is coded: centred, rotated (fixed signs, then a Walsh-Hadamard matrix: orthogonal together), then integers
// and one f16 scale. A block holds the packed rows [64, bits * head_dim / 8] and then 64 scales.
//
//   q8          rounded to integers, the largest becomes 127
//   q4, q3, q2  the nearest level of a Lloyd-Max quantiser of the unit Gaussian; the scale is
//               squared norm / (row . levels), so that the error stands at right angles to the row and cancels in sums
#pragma once

#include "core/rotation.h"
#include "device/half.h"
#include "device/layout.h"
#include "device/warp.h"

namespace kc::cuda {

__host__ __device__ constexpr int packed_row_bytes(int codec, int head_dim) { return codec_bits(codec) * head_dim / 8; }

// What is 256 with each of the four bytes.
__host__ __device__ constexpr unsigned minus_bytes(unsigned bytes) {
    unsigned out = 0;
    for (int shift = 0; shift < 32; shift += 8) out |= ((0x100u - (bytes >> shift & 255u)) & 255u) << shift;
    return out;
}

// Four levels, a byte each, by the lower four nibbles of the indices of their magnitudes and of their signs.
template <int kCodec>
__device__ __forceinline__ unsigned signed_levels4(unsigned indices, unsigned signs) {
    // The magnitudes, lowest in the lowest byte: a byte permutation looks up four at once.
    constexpr unsigned kLow = kCodec == KC_CODEC_Q4   ? 6u | 18u << 8 | 31u << 16 | 44u << 24
                              : kCodec == KC_CODEC_Q3 ? 14u | 45u << 8 | 79u << 16 | 127u << 24
                                                      : 38u | 127u << 8;
    constexpr unsigned kHigh = kCodec == KC_CODEC_Q4 ? 58u | 75u << 8 | 96u << 16 | 127u << 24 : 0u;
    constexpr unsigned kMinusLow = minus_bytes(kLow), kMinusHigh = minus_bytes(kHigh);
    const unsigned negative = __byte_perm(0xff00u, 0u, signs);
    return (__byte_perm(kLow, kHigh, indices) & ~negative) | (__byte_perm(kMinusLow, kMinusHigh, indices) & negative);
}

// A code is sign << (bits - 1) | index of the magnitude.
template <int kCodec>
__device__ __forceinline__ float level_of(unsigned code) {
    constexpr int kSignBit = codec_bits(kCodec) - 1;
    const unsigned level = signed_levels4<kCodec>(code & ((1u << kSignBit) - 1), code >> kSignBit);
    return static_cast<float>(static_cast<int8_t>(level));
}

// Eight levels, dimensions [8 * piece, 8 * piece + 8) of a packed row, a signed byte each, the first one lowest.
template <int kCodec>
__device__ __forceinline__ uint2 load_bytes8(const uint8_t* row, int piece, int head_dim) {
    if constexpr (kCodec == KC_CODEC_Q8) {
        return reinterpret_cast<const uint2*>(row)[piece];
    } else {
        unsigned indices, signs;
        if constexpr (kCodec == KC_CODEC_Q4) {
            const unsigned raw = reinterpret_cast<const unsigned*>(row)[piece];
            indices = raw & 0x77777777u;
            signs = raw >> 3 & 0x11111111u;
        } else {
            // Two bits a dimension, here moved to a nibble each; q3 has a plane of third bits behind them.
            unsigned raw = reinterpret_cast<const uint16_t*>(row)[piece];
            raw = (raw | raw << 8) & 0x00ff00ffu;
            raw = (raw | raw << 4) & 0x0f0f0f0fu;
            raw = (raw | raw << 2) & 0x33333333u;
            if constexpr (kCodec == KC_CODEC_Q3) {
                indices = raw;
                signs = row[head_dim / 4 + piece];
                signs = (signs | signs << 12) & 0x000f000fu;
                signs = (signs | signs << 6) & 0x03030303u;
                signs = (signs | signs << 3) & 0x11111111u;
            } else {
                indices = raw & 0x11111111u;
                signs = raw >> 1 & 0x11111111u;
            }
        }
        return {signed_levels4<kCodec>(indices, signs), signed_levels4<kCodec>(indices >> 16, signs >> 16)};
    }
}

// The same as floats.
template <int kCodec>
__device__ __forceinline__ Halves8 load_levels8(const uint8_t* row, int piece, int head_dim) {
    const uint2 raw = load_bytes8<kCodec>(row, piece, head_dim);
    Halves8 out;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        out.x[i] = static_cast<float>(static_cast<int8_t>(raw.x >> (8 * i)));
        out.x[i + 4] = static_cast<float>(static_cast<int8_t>(raw.y >> (8 * i)));
    }
    return out;
}

__device__ __forceinline__ const uint16_t* block_scales(const uint8_t* block, int codec, int head_dim) {
    return reinterpret_cast<const uint16_t*>(block + kPageTokens * packed_row_bytes(codec, head_dim));
}

// ---- rotation

// +1 or -1 from splitmix64, the same for every row ever stored.
__device__ __forceinline__ float rotation_sign(int d) {
    unsigned long long z = (kSignStart + static_cast<unsigned long long>(d) + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (z ^ z >> 31) & 1u ? 1.f : -1.f;
}

struct WarpTeam {
    __device__ static int member() { return static_cast<int>(threadIdx.x) % kWarp; }
    __device__ static int size() { return kWarp; }
    __device__ static void sync() { __syncwarp(); }
};
struct BlockTeam {
    __device__ static int member() { return static_cast<int>(threadIdx.x); }
    __device__ static int size() { return static_cast<int>(blockDim.x); }
    __device__ static void sync() { __syncthreads(); }
};

// The Walsh-Hadamard matrix times x[head_dim] in shared memory, in blocks of the largest power of two in head_dim.
template <class Team>
__device__ void hadamard(float* x, int head_dim) {
    const int block = head_dim & -head_dim;
    for (int half = 1; half < block; half *= 2) {
        Team::sync();
        for (int i = Team::member(); i < head_dim / 2; i += Team::size()) {
            const int at = i / half * 2 * half + i % half;
            const float a = x[at], b = x[at + half];
            x[at] = a + b;
            x[at + half] = a - b;
        }
    }
    Team::sync();
    const float scale = 1.f / sqrtf(static_cast<float>(block));
    for (int i = Team::member(); i < head_dim; i += Team::size()) x[i] *= scale;
    Team::sync();
}
template <class Team>
__device__ void rotate(float* x, int head_dim) {
    Team::sync();
    for (int i = Team::member(); i < head_dim; i += Team::size()) x[i] *= rotation_sign(i);
    hadamard<Team>(x, head_dim);
}
template <class Team>
__device__ void rotate_back(float* x, int head_dim) {
    hadamard<Team>(x, head_dim);
    for (int i = Team::member(); i < head_dim; i += Team::size()) x[i] *= rotation_sign(i);
    Team::sync();
}

// ---- encoding

// The code of a number in units of the levels' integers.
template <int kCodec>
__device__ __forceinline__ unsigned nearest_code(float u) {
    constexpr unsigned kSign = 1u << (codec_bits(kCodec) - 1);
    const float magnitude = fabsf(u);
    unsigned best = 0;
    for (unsigned i = 1; i < kSign; ++i) {
        // The border between two levels is their mean.
        if (magnitude > 0.5f * (level_of<kCodec>(i - 1) + level_of<kCodec>(i))) best = i;
    }
    return u < 0.f ? best | kSign : best;
}

// Encodes y[head_dim], centred and rotated, in shared memory, by one warp. y is spoilt. Sums are in double, so that
// their order does not show in the codes.
template <int kCodec>
__device__ void encode_row(float* y, int head_dim, uint8_t* row, uint16_t* scale) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    if constexpr (kCodec == KC_CODEC_Q8) {
        float most = 0.f;
        for (int d = lane; d < head_dim; d += kWarp) most = fmaxf(most, fabsf(y[d]));
        const uint16_t bits = to_half(lanes_max(most) / 127.f);
        const float s = from_half(bits);
        for (int d = lane; d < head_dim; d += kWarp) {
            const float number = s > 0.f ? fminf(127.f, fmaxf(-127.f, y[d] / s)) : 0.f;
            row[d] = static_cast<uint8_t>(static_cast<int8_t>(rintf(number)));
        }
        if (lane == 0) *scale = bits;
    } else {
        // The largest level of a unit Gaussian, which the integer 127 stands for.
        constexpr double kLargest = kCodec == KC_CODEC_Q4 ? 2.7326 : kCodec == KC_CODEC_Q3 ? 2.1520 : 1.5104;
        double squares = 0.;
        for (int d = lane; d < head_dim; d += kWarp) squares += static_cast<double>(y[d]) * y[d];
        squares = lanes_sum(squares);
        const double to_unit = squares > 0. ? 127. / kLargest / sqrt(squares / head_dim) : 0.;
        double product = 0.;
        for (int d = lane; d < head_dim; d += kWarp) {
            const unsigned code = nearest_code<kCodec>(static_cast<float>(y[d] * to_unit));
            product += static_cast<double>(y[d]) * level_of<kCodec>(code);
            y[d] = __uint_as_float(code);
        }
        product = lanes_sum(product);
        __syncwarp();
        if (lane == 0) *scale = product > 0. ? to_half(static_cast<float>(squares / product)) : uint16_t{0};
        for (int piece = lane; piece < head_dim / 8; piece += kWarp) {
            unsigned packed = 0, third = 0;
            for (int i = 0; i < 8; ++i) {
                const unsigned code = __float_as_uint(y[8 * piece + i]);
                if (kCodec == KC_CODEC_Q4)
                    packed |= code << (4 * i);
                else
                    packed |= (code & 3u) << (2 * i);
                third |= (code >> 2 & 1u) << i;
            }
            if constexpr (kCodec == KC_CODEC_Q4) {
                reinterpret_cast<unsigned*>(row)[piece] = packed;
            } else {
                reinterpret_cast<uint16_t*>(row)[piece] = static_cast<uint16_t>(packed);
                if (kCodec == KC_CODEC_Q3) row[head_dim / 4 + piece] = static_cast<uint8_t>(third);
            }
        }
    }
    __syncwarp();
}

// Calls f with the codec as a constant.
template <class F>
void for_codec(int32_t codec, F&& f) {
    switch (codec) {
        case KC_CODEC_Q8:
            return f(std::integral_constant<int, KC_CODEC_Q8>());
        case KC_CODEC_Q4:
            return f(std::integral_constant<int, KC_CODEC_Q4>());
        case KC_CODEC_Q3:
            return f(std::integral_constant<int, KC_CODEC_Q3>());
        case KC_CODEC_Q2:
            return f(std::integral_constant<int, KC_CODEC_Q2>());
        default:
            return f(std::integral_constant<int, KC_CODEC_F16>());
    }
}

}  // namespace kc::cuda
