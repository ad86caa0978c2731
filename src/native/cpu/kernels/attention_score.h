// Purpose:  q . k over every stored key of a decode step, softmax weights against the final maximum, their mass.
// Shapes:   q [group, head_dim] per query and KV head; keys in blocks of 64 tokens; weights [query, q_head, token].
// Mapping:  piece = (query, KV head, span of 16 pages); K is read once for all heads of the group, tokens in lanes.
// Traffic:  per query and KV head, tokens * (bytes of a coded row + 3 * 4 * group), the weights staying in cache.
// Numerics: f16 keys: f32 chains over ascending d. Coded keys: integer dot products, exact. Masses by blocks and spans.
#pragma once

#include <stdint.h>

#include "kcache_ops.h"

namespace kc {

struct AttentionScoreBodies {
    // scores[h, t] = scale * sum over d of q[h, d] * block[d, t], a block of f16 keys. `next` is read soon after.
    void (*dot_f16)(const uint8_t* block, const uint8_t* next, const float* q, int64_t n_heads, int64_t head_dim,
                    float scale, float* scores, int64_t score_stride);
    // dots[h, t] = sum over d of q[h, d] * integer (d, t), a block of q8 keys; q [n_heads, head_dim] up to +-32767.
    void (*dot_q8)(const uint8_t* block, const int16_t* q, int64_t n_heads, int64_t head_dim, float* dots,
                   int64_t dot_stride);
    // The same for expanded levels of keys (codes.h); q up to +-127.
    void (*dot_levels)(const int8_t* levels, const int8_t* q, int64_t n_heads, int64_t head_dim, float* dots,
                       int64_t dot_stride);
    // scores[t] = scores[t] * row_scales[t] * factor + offset for 64 tokens, in place.
    void (*scale)(float* scores, const uint16_t* row_scales, float factor, float offset);
    // scale * q . row for one f16 key that lies as a row.
    float (*dot_row)(const uint16_t* row, const float* q, int64_t head_dim, float scale);
    // 64 scores that are all seen: those that are NaN or infinite become minus infinity. Grows `max`, returns how many.
    int32_t (*scan)(float* scores, float* max);
    // weights = exp(scores - max) over n_blocks * 64 tokens, in place; sums[n_blocks].
    void (*exponentials)(float* scores, int64_t n_blocks, float max, float* sums);
    // exp of one number, with the bits of `exponentials`.
    float (*exponential)(float x);
    // The sum of 64 weights and of their squares, in the order of `exponentials`.
    void (*sums)(const float* weights, float* sum, float* squares);
};

}  // namespace kc
