// The sums of attention_mix: what one span leaves behind, and how the rows of a page are added to it.
#pragma once

#include "cpu/context.h"
#include "cpu/kernels/codec.h"
#include "cpu/kernels/layout.h"
#include "cpu/kernels/wave_lists.h"

namespace kc {

// What one span of one query head leaves behind, behind its sums [head_dim]: of rows as they are, and of rotated rows
// where there are any.
struct SpanMix {
    float mass;
    float rotated_mass;  // of the rotated rows: what their centre is multiplied with
    float tail;
    float squares;
    float highest;  // of the exponents of the weights that were made anew
    float reserved[11];
};
constexpr int64_t kSpanMixFloats = sizeof(SpanMix) / sizeof(float);

// Rows of one kind, side by side with their weights.
struct PackedRows {
    int64_t n = 0;
    int token[kPageTokens];  // of the page, where they are of one
    const uint8_t* row[kPageTokens];
    float weight[kMaxGroup][kPageTokens];
};

// Sums over the weights of some tokens, of up to kMaxGroup heads.
struct PageSums {
    float weights[kMaxGroup];
    float squares[kMaxGroup];
};

constexpr int64_t n_sums(const kc_layer_view& layer) { return layer.v.first != nullptr ? 2 : 1; }

struct Mix {
    const kc_attention_mix_params& params;
    const kc_wave& wave;
    const kc_layer_view& layer;
    const Kernels& kernels;
    int64_t group;
    int64_t n_spans;
    int64_t span_stride;
    float* spans;

    float* weights_of(int64_t query, int64_t q_head) const {
        return params.weights + (query * layer.n_q_heads + q_head) * wave.token_stride;
    }
    float* plain_of(int64_t query, int64_t q_head, int64_t span) const {
        return spans + ((query * layer.n_q_heads + q_head) * n_spans + span) * span_stride;
    }
    float* rotated_of(int64_t query, int64_t q_head, int64_t span) const {
        return plain_of(query, q_head, span) + layer.head_dim;
    }
    SpanMix& span_of(int64_t query, int64_t q_head, int64_t span) const {
        return *reinterpret_cast<SpanMix*>(plain_of(query, q_head, span) + n_sums(layer) * layer.head_dim);
    }
    // Distance between the sums of neighbouring query heads.
    int64_t head_stride() const { return n_spans * span_stride; }

    // Entries [begin, end) of a list, or heads.
    struct Range {
        int64_t begin;
        int64_t end;
    };

    bool measures() const { return params.kept != nullptr && (params.tail != nullptr || params.error != nullptr); }
    bool rescores() const { return params.mode == KC_MIX_SKETCHED && params.kept != nullptr && layer.exact.has_k; }
    float rescore(int64_t query, int64_t q_head, int64_t kept_begin, int64_t kept_end, float shift) const;
    bool rescore_far(int64_t query, int64_t q_head) const;
    Range kept_of(int64_t list, int64_t first, int64_t last) const;
    void prefetch_kept(int64_t list, int64_t first, int64_t last) const;
    // Behind page `last` - 1 of a span, work most likely goes on with next_page of next_head.
    struct Course {
        int32_t last;
        int32_t next_head;
        int32_t next_page;
    };
    Block block_after(const kc_sequence_view& sequence, int32_t kv_head, int32_t page, int32_t n,
                      const Course& course) const;
    void mix_span(int64_t query, int64_t kv_head, Range heads, int64_t span, bool rescored) const;
    void mix_part(int64_t query, int64_t kv_head, const SpanPart& part) const;
    void mix_heads(int64_t query, int64_t head, int64_t n_heads, int64_t span, int64_t kept_begin, int64_t kept_end,
                   const Course& course) const;
    PageSums sums_of(const float* weights, int64_t stride, int64_t n_heads, uint64_t tokens) const;
    void add_rows(int64_t query, int64_t head, int64_t n_heads, int64_t span, const Block& block, int64_t ahead_bytes,
                  const float* weights, uint64_t tokens, PackedRows& packed) const;
    void add_exact(int64_t query, int64_t head, int64_t n_heads, int64_t span, int64_t begin, int64_t end,
                   PackedRows& packed) const;
    PageSums add_stored(int64_t query, int64_t head, int64_t n_heads, int64_t span, int32_t page, const Block& block,
                        uint64_t tokens, const Course& course, PackedRows& packed) const;
    PageSums add_levels(int64_t query, int64_t head, int64_t n_heads, int64_t span, const CodedPage* pages,
                        int64_t n_pages, const Course& course) const;
    void sum_outside(int64_t query, int64_t head, int64_t n_heads, int64_t span, const int32_t* begin,
                     const int32_t* end) const;
    void finish_list(int64_t query, int64_t kv_head) const;
    void finish(int64_t query, int64_t q_head) const;
};

}  // namespace kc
