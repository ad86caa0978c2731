// Purpose:  exact attention of a prompt's rows over all tokens before them, with the very arithmetic of a decode step.
// Shapes:   a tile of some 48 rows of q (tokens times the heads of one group) against pages of 64 keys and values.
// Mapping:  piece = (sequence, KV head, tile of tokens); scores of a tile for the whole length stay in the thread's
// scratch. Traffic:  per tile, tokens * (bytes of a key and a value + 12 * rows); 4 * rows * tokens * head_dim
// operations. Numerics: f32; scores chain over ascending d, values over ascending tokens by blocks and spans, two
// passes, final maximum.
#pragma once

#include <stdint.h>

#include "kcache_ops.h"

namespace kc {

struct AttentionFullBodies {
    // scores[r, t] = scale * sum over d of q[r, d] * keys[d, t]; q [n_rows, head_dim], keys [head_dim, 64].
    void (*scores)(const float* q, int64_t n_rows, const float* keys, int64_t head_dim, float scale, float* scores,
                   int64_t score_stride);
    // into[r, d] += sum over t of weights[r, t] * values[t, d]; values [64, head_dim], into [n_rows, head_dim].
    void (*mix)(const float* weights, int64_t weight_stride, int64_t n_rows, const float* values, int64_t head_dim,
                float* into);
};

}  // namespace kc
