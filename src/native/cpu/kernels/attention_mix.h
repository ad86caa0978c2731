// Purpose:  the weighted sum of values of a decode step, from exact rows, from the V store, or from both.
// Shapes:   weights [query, q_head, token], rows of values [head_dim]; out [row, q_head, head_dim].
// Mapping:  piece = (query, some KV heads, span of 16 pages), one head after the other, or, of kept rows alone, (query,
//           KV head, part of the spans); a value is read once for all heads of the group, d in lanes.
// Traffic:  per query and KV head, (rows read) * (bytes of a row) + tokens * 4 * group: weights, for the tail too.
// Numerics: f32 chains over ascending tokens in blocks of 64, merged by spans; rows of levels are summed in integers
//           over the pages of a span, under weights of 15 bits; coded rows are summed rotated.
#pragma once

#include <stdint.h>

#include "kcache_ops.h"

namespace kc {

// A page of values of q4, q3 or q2.
struct CodedPage {
    const uint8_t* block;
    const uint16_t* scales;  // [64], behind the codes of the block
    const float* weights;    // [64], of the first head
    uint64_t tokens;         // those with a bit count
};

struct AttentionMixBodies {
    // into[h, d] += sum over j of weights[h, j] * rows[j][d], f16 rows; weights [n_heads, weight_stride]. What lies
    // ahead_bytes behind a row is wanted next.
    void (*rows_f16)(const uint8_t* const* rows, int64_t n_rows, const float* weights, int64_t weight_stride,
                     int64_t n_heads, int64_t head_dim, int64_t ahead_bytes, float* into, int64_t into_stride);
    // The same for rows of 8-bit integers; their scales are part of the weights.
    void (*rows_q8)(const uint8_t* const* rows, int64_t n_rows, const float* weights, int64_t weight_stride,
                    int64_t n_heads, int64_t head_dim, int64_t ahead_bytes, float* into, int64_t into_stride);
    // The same for coded pages of one span. Also the sum of the weights that count and that of their squares, [n_heads]
    // each. Weights times scales are rounded to 15 bits of the largest, the rest is exact.
    void (*levels)(int32_t codec, const CodedPage* pages, int64_t n_pages, int64_t weight_stride, int64_t n_heads,
                   int64_t head_dim, float* into, int64_t into_stride, float* sums, float* squares);
};

}  // namespace kc
