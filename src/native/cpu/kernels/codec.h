// Purpose:  rows of K and V between floats and what a store keeps of them.
// Shapes:   a row [head_dim]; a block is 64 rows of one KV head, its layout chosen for the kernels that read it.
// Mapping:  one row at a time on append, one block at a time where a prompt reads coded pages.
// Traffic:  4 * head_dim bytes in, bits * head_dim / 8 + 2 out.
// Numerics: f16 rounds to nearest even; what does not fit is reported, NaN becomes 0, the rest is held to +-65504.
#pragma once

#include <stdint.h>

#include "kcache_ops.h"

namespace kc {

struct CodecBodies {
    // Returns true where every number of the row fits f16.
    bool (*to_f16)(const float* x, int64_t n, uint16_t* out);
    void (*from_f16)(const uint16_t* x, int64_t n, float* out);
};

}  // namespace kc
