// Purpose:  the small kernels between the products: rms_norm, rope_table, rope, swiglu, add, embed, softmax, argmax.
// Shapes:   as kcache_ops.h gives them; one body call does one row, or a range of a flat vector.
// Mapping:  rows (or ranges of 4096 elements) over the pool; a few rows run on the caller.
// Traffic:  4 bytes for every float in and out; embed: n_tokens * (bytes of a row + 4 * n_cols).
// Numerics: f32, sums per lane and then over the lanes in a fixed order; rope_table in double.
#pragma once

#include <stdint.h>

#include "kcache_ops.h"

namespace kc {

struct CpuContext;

struct ElementwiseBodies {
    // One row of dim elements.
    void (*rms_norm)(const float* x, const float* weight, int64_t dim, float eps, float* out);
    // One token: table [n_pairs, 2], x [n_heads, head_dim].
    void (*rope)(const float* table, int64_t n_heads, int64_t head_dim, int64_t n_pairs, int32_t pairing, float* x);
    void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);
    void (*add)(const float* a, const float* b, int64_t n, float* out);
    // One row of n elements, n at least 1.
    void (*softmax)(const float* x, int64_t n, float* out);
    int32_t (*argmax)(const float* x, int64_t n);
};

// The stems of kcache_ops.h on the CPU. Arguments have been checked.
void rms_norm(CpuContext& context, const float* x, const float* weight, int64_t n_tokens, int64_t dim, float eps,
              float* out);
void rope_table(CpuContext& context, const int32_t* positions, const float* inv_freq, int64_t n_tokens, int64_t n_pairs,
                float magnitude, float* out);
void rope(CpuContext& context, const float* table, int64_t n_tokens, int64_t n_heads, int64_t head_dim, int64_t n_pairs,
          int32_t pairing, float* x);
void swiglu(CpuContext& context, const float* gate, const float* up, int64_t n, float* out);
void add(CpuContext& context, const float* a, const float* b, int64_t n, float* out);
void softmax(CpuContext& context, const float* x, int64_t n_rows, int64_t n_cols, float* out);
void argmax(CpuContext& context, const float* x, int64_t n_rows, int64_t n_cols, int32_t* out);

}  // namespace kc
