#include "cpu/kernels/codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/kernels/codes.h"
#include "cpu/kernels/half.h"
#include "cpu/kernels/layout.h"

namespace kc {
namespace {

int bits_of(int32_t codec) {
    switch (codec) {
        case KC_CODEC_F16:
            return 16;
        case KC_CODEC_Q8:
            return 8;
        case KC_CODEC_Q4:
            return 4;
        case KC_CODEC_Q3:
            return 3;
        case KC_CODEC_Q2:
            return 2;
        default:
            return 0;
    }
}

const int8_t* levels_of(int32_t codec) {
    return codec == KC_CODEC_Q4 ? kLevels4 : codec == KC_CODEC_Q3 ? kLevels3 : kLevels2;
}

// The largest level of a unit Gaussian, which the integer 127 stands for.
double largest_level(int32_t codec) { return codec == KC_CODEC_Q4 ? 2.7326 : codec == KC_CODEC_Q3 ? 2.1520 : 1.5104; }

// The code of every level, by the level's low byte.
struct CodeTable {
    uint8_t code[256];
};
constexpr CodeTable make_code_table(const int8_t* levels, int n_levels) {
    CodeTable table = {};
    for (int i = 0; i < n_levels; ++i) table.code[static_cast<uint8_t>(levels[i])] = static_cast<uint8_t>(i);
    return table;
}
constexpr CodeTable kCodes4 = make_code_table(kLevels4, 16);
constexpr CodeTable kCodes3 = make_code_table(kLevels3, 8);
constexpr CodeTable kCodes2 = make_code_table(kLevels2, 4);
const uint8_t* codes_of(int32_t codec) {
    return codec == KC_CODEC_Q4 ? kCodes4.code : codec == KC_CODEC_Q3 ? kCodes3.code : kCodes2.code;
}

// Bits [kFirst, kFirst + kWidth) of the codes of one row, in the plane that holds these bits of all codes.
template <int kFirst, int kWidth>
void store_bits(uint8_t* plane, bool is_v, int token, int32_t head_dim, const uint8_t* codes, const int8_t* numbers) {
    constexpr int kMask = (1 << kWidth) - 1, kPerByte = 8 / kWidth;
    for (int32_t d = 0; d < head_dim; ++d) {
        const CodePlace at = code_place(is_v, token, d);
        const int shift = static_cast<int>(at.unit % kPerByte) * kWidth;
        const int bits = codes[static_cast<uint8_t>(numbers[d])] >> kFirst & kMask;
        uint8_t& byte = plane[at.unit / kPerByte * kUnitCodes + at.byte];
        byte = static_cast<uint8_t>((byte & ~(kMask << shift)) | bits << shift);
    }
}
template <int kFirst, int kWidth>
int load_bits(const uint8_t* plane, const CodePlace& at) {
    constexpr int kMask = (1 << kWidth) - 1, kPerByte = 8 / kWidth;
    const int shift = static_cast<int>(at.unit % kPerByte) * kWidth;
    return (plane[at.unit / kPerByte * kUnitCodes + at.byte] >> shift & kMask) << kFirst;
}

// The plane of the high bits of q3.
int64_t high_plane_bytes(int32_t head_dim) { return int64_t{head_dim} * 16; }

// Where integer (token, d) of a q8 block lies: values as rows, keys by pairs of dimensions.
int64_t q8_index(bool is_v, int token, int d, int32_t head_dim) {
    return is_v ? int64_t{token} * head_dim + d : (d / 2 * int64_t{kPageTokens} + token) * 2 + d % 2;
}

uint16_t quantize_q8(const float* y, int32_t head_dim, int8_t* numbers) {
    float largest = 0.f;
    for (int32_t d = 0; d < head_dim; ++d) largest = std::max(largest, std::fabs(y[d]));
    const uint16_t half = to_half(largest / 127.f);
    const float scale = from_half(half);
    for (int32_t d = 0; d < head_dim; ++d) {
        const float number = scale > 0.f ? std::min(127.f, std::max(-127.f, y[d] / scale)) : 0.f;
        numbers[d] = static_cast<int8_t>(std::lrintf(number));
    }
    return half;
}

// In double, the products of every fourth pair in a sum of their own; head_dim is a multiple of 16.
template <class T>
double dot(const float* a, const T* b, int32_t head_dim) {
    double sums[4] = {};
    for (int32_t d = 0; d < head_dim; d += 4) {
        for (int i = 0; i < 4; ++i) sums[i] += static_cast<double>(a[d + i]) * b[d + i];
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

uint16_t quantize_levels(int32_t codec, const float* y, int32_t head_dim, int8_t* numbers) {
    const int8_t* levels = levels_of(codec);
    const int n_positive = 1 << (bits_of(codec) - 1);
    float midpoints[8];
    for (int i = 0; i + 1 < n_positive; ++i) {
        midpoints[i] = 0.5f * static_cast<float>(levels[n_positive + i] + levels[n_positive + i + 1]);
    }
    const double squares = dot(y, y, head_dim);
    const double to_unit = squares > 0. ? 127. / largest_level(codec) / std::sqrt(squares / head_dim) : 0.;
    float units[kMaxHeadDim];
    for (int32_t d = 0; d < head_dim; ++d) units[d] = static_cast<float>(y[d] * to_unit);
    // Levels are symmetric; how many midpoints of the positive ones lie below. All numbers at a time, as compilers make
    // vectors of that.
    int32_t indices[kMaxHeadDim] = {};
    for (int i = 0; i + 1 < n_positive; ++i) {
        for (int32_t d = 0; d < head_dim; ++d) indices[d] += std::fabs(units[d]) > midpoints[i] ? 1 : 0;
    }
    for (int32_t d = 0; d < head_dim; ++d) {
        const int8_t level = levels[n_positive + indices[d]];
        numbers[d] = units[d] < 0.f ? static_cast<int8_t>(-level) : level;
    }
    const double product = dot(y, numbers, head_dim);
    // Every level has the sign of its number, so the product is positive. This scale, unlike the one of least squares,
    // does not shrink rows: |y|^2 = scale * (y . levels).
    return product > 0. ? to_half(static_cast<float>(squares / product)) : 0;
}

}  // namespace

uint64_t block_bytes(int32_t codec, int32_t head_dim) {
    const int bits = bits_of(codec);
    if (bits == 0 || head_dim < 16 || head_dim > kMaxHeadDim || head_dim % 16 != 0) return 0;
    const uint64_t rows_bytes = static_cast<uint64_t>(kPageTokens) * bits * head_dim / 8;
    return codec == KC_CODEC_F16 ? rows_bytes : rows_bytes + 2 * kPageTokens;
}

uint16_t* block_scales(int32_t codec, uint8_t* block, int32_t head_dim) {
    return reinterpret_cast<uint16_t*>(block + int64_t{kPageTokens} * bits_of(codec) * head_dim / 8);
}

void add_rotated(const CodecBodies& bodies, const float* centre, float mass, int32_t head_dim, float* rotated,
                 float* plain) {
    // Before there is a centre there are no coded rows.
    if (mass == 0.f) return;
    for (int32_t d = 0; d < head_dim; ++d) rotated[d] += mass * centre[d];
    bodies.rotate_back(rotated, head_dim);
    for (int32_t d = 0; d < head_dim; ++d) plain[d] += rotated[d];
}

uint16_t quantize(int32_t codec, const float* y, int32_t head_dim, int8_t* numbers) {
    return codec == KC_CODEC_Q8 ? quantize_q8(y, head_dim, numbers) : quantize_levels(codec, y, head_dim, numbers);
}

void store_row(int32_t codec, bool is_v, uint8_t* block, int token, int32_t head_dim, const int8_t* numbers,
               uint16_t scale) {
    block_scales(codec, block, head_dim)[token] = scale;
    if (codec == KC_CODEC_Q8) {
        for (int32_t d = 0; d < head_dim; ++d) {
            block[q8_index(is_v, token, d, head_dim)] = static_cast<uint8_t>(numbers[d]);
        }
        return;
    }
    const uint8_t* codes = codes_of(codec);
    if (codec == KC_CODEC_Q4) return store_bits<0, 4>(block, is_v, token, head_dim, codes, numbers);
    store_bits<0, 2>(block, is_v, token, head_dim, codes, numbers);
    if (codec == KC_CODEC_Q2) return;
    store_bits<2, 1>(block + high_plane_bytes(head_dim), is_v, token, head_dim, codes, numbers);
}

void load_row(int32_t codec, bool is_v, const uint8_t* block, int token, int32_t head_dim, int8_t* numbers) {
    for (int32_t d = 0; d < head_dim; ++d) {
        if (codec == KC_CODEC_Q8) {
            numbers[d] = static_cast<int8_t>(block[q8_index(is_v, token, d, head_dim)]);
            continue;
        }
        const CodePlace at = code_place(is_v, token, d);
        int code = codec == KC_CODEC_Q4 ? load_bits<0, 4>(block, at) : load_bits<0, 2>(block, at);
        if (codec == KC_CODEC_Q3) code |= load_bits<2, 1>(block + high_plane_bytes(head_dim), at);
        numbers[d] = levels_of(codec)[code];
    }
}

void load_block(const CodecBodies& bodies, int32_t codec, bool is_v, const uint8_t* block, int32_t head_dim,
                float* numbers) {
    int8_t levels[kMaxHeadDim * kPageTokens];
    if (codec == KC_CODEC_Q8) {
        std::memcpy(levels, block, static_cast<size_t>(head_dim) * kPageTokens);
    } else {
        bodies.expand(codec, block, head_dim, levels);
    }
    for (int d = 0; d < head_dim; ++d) {
        for (int t = 0; t < kPageTokens; ++t) {
            const int64_t from = codec == KC_CODEC_Q8 ? q8_index(is_v, t, d, head_dim) : level_index(is_v, t, d);
            numbers[is_v ? int64_t{t} * head_dim + d : int64_t{d} * kPageTokens + t] = levels[from];
        }
    }
}

}  // namespace kc
