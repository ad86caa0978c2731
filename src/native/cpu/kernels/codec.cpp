#include "cpu/kernels/codec.h"

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

}  // namespace

uint64_t block_bytes(int32_t codec, int32_t head_dim) {
    const int bits = bits_of(codec);
    if (bits == 0 || head_dim < 16 || head_dim > kMaxHeadDim || head_dim % 16 != 0) return 0;
    const uint64_t rows_bytes = static_cast<uint64_t>(kPageTokens) * bits * head_dim / 8;
    return codec == KC_CODEC_F16 ? rows_bytes : rows_bytes + 2 * kPageTokens;
}

}  // namespace kc
