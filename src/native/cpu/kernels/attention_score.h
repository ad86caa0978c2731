// Purpose:  q . k over every stored key of a decode step, softmax weights against a reference score, their mass.
// Shapes:   q [group, head_dim] per query and KV head; keys in blocks of 64 tokens; weights [query, q_head, token].
// Mapping:  piece = (query, some KV heads, span of 16 pages), page by page as they lie in memory; K is read once for
//           all heads of the group, tokens in lanes. Then the weights of the span, while its scores are in cache.
// Traffic:  per query and KV head, tokens * (bytes of a coded row + 2 * 4 * group), the weights staying in cache.
// Numerics: f16 keys: f32 chains over ascending d. Coded keys: integer dot products, exact. Masses by blocks and spans.
#pragma once

#include <stdint.h>

#include "kcache_ops.h"

namespace kc {

// The score of a token that a query does not see.
constexpr float kUnseen = -3.40282347e38f;

// What turns the integer dot products of a query head with coded keys into scores: dot * (scale of the row) * factor +
// offset, the offset being the share of the centre.
struct CodedQuery {
    float factor;
    float offset;
    int32_t sum;  // of the query's integers
    int32_t reserved;
};

// What the weights of a query head over some tokens come to.
struct SpanScore {
    float max;   // of the scores
    float mass;  // sum of the weights
    int32_t n_nonfinite;
    int32_t reserved;
};

struct AttentionScoreBodies {
    // f16 keys: scores[h, t] = scale * sum over d of q[h, d] * block[d, t]. `next` is read soon after.
    void (*keys_f16)(const uint8_t* block, const uint8_t* next, const float* q, int64_t n_heads, int64_t head_dim,
                     float scale, float* scores, int64_t score_stride);
    // scores[h, t] of q8 keys with their scales [64]; q [n_heads, head_dim] up to +-32767.
    void (*keys_q8)(const uint8_t* block, const uint16_t* row_scales, const int16_t* q, const CodedQuery* queries,
                    int64_t n_heads, int64_t head_dim, float* scores, int64_t score_stride);
    // Of q4, q3 or q2 keys; q up to +-127.
    void (*keys_levels)(int32_t codec, const uint8_t* block, const uint16_t* row_scales, const int8_t* q,
                        const CodedQuery* queries, int64_t n_heads, int64_t head_dim, float* scores,
                        int64_t score_stride);
    // scale * q . row for one f16 key that lies as a row.
    float (*dot_row)(const uint16_t* row, const float* q, int64_t head_dim, float scale);
    // For prompts: scores[t] = scores[t] * row_scales[t] + offset for 64 tokens, in place.
    void (*scale)(float* scores, const uint16_t* row_scales, float offset);
    // Those of the scores of 64 tokens that are NaN or infinite become kUnseen and are counted; max grows to the
    // largest.
    void (*scan)(float* scores, float* max, int32_t* n_nonfinite);
    // The scores of 64 tokens become weights as by `scan` and `exponentials`, in one go; `span` grows by them.
    void (*weigh)(float* scores, float reference, SpanScore* span);
    // weights = exp(scores - reference) over n_blocks * 64 tokens, in place, 0 where kUnseen; returns their sum, block
    // by block.
    float (*exponentials)(float* scores, int64_t n_blocks, float reference);
    // exp of one number, with the bits of `exponentials`.
    float (*exponential)(float x);
    // The sum of those of 64 weights that have a bit in `tokens`, and of their squares, in the order of `exponentials`.
    void (*sums)(const float* weights, uint64_t tokens, float* sum, float* squares);
};

}  // namespace kc
