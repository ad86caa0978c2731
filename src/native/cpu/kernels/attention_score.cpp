#include "cpu/kernels/attention_score.h"

#include <algorithm>
#include <cmath>

#include "cpu/context.h"
#include "cpu/kernels/layout.h"

namespace kc {
namespace {

constexpr float kInfinity = __builtin_inff();

// What one span of one query head leaves behind, [query, q_head, span].
struct SpanScore {
    float max;
    float mass;
    int32_t n_nonfinite;
    int32_t reserved;
};

struct Score {
    const kc_attention_score_params& params;
    const kc_wave& wave;
    const kc_layer_view& layer;
    const Kernels& kernels;
    int64_t group;
    int64_t n_spans;
    SpanScore* spans;

    float* weights_of(int64_t query, int64_t q_head) const {
        return params.weights + (query * layer.n_q_heads + q_head) * wave.token_stride;
    }
    SpanScore& span_of(int64_t query, int64_t q_head, int64_t span) const {
        return spans[(query * layer.n_q_heads + q_head) * n_spans + span];
    }

    void score_span(int64_t query, int64_t kv_head, int64_t span) const;
    void weigh_span(int64_t query, int64_t kv_head, int64_t span) const;
    void merge(int64_t query, int64_t q_head) const;
};

// Minus infinity for the tokens of a page that are not seen, the rest as `scan` does.
int32_t scan_seen(float* scores, uint64_t seen, float* max) {
    int32_t n_nonfinite = 0;
    for (int t = 0; t < kPageTokens; ++t) {
        if (!(seen >> t & 1)) {
            scores[t] = -kInfinity;
        } else if (!std::isfinite(scores[t])) {
            scores[t] = -kInfinity;
            ++n_nonfinite;
        } else {
            *max = std::max(*max, scores[t]);
        }
    }
    return n_nonfinite;
}

void Score::score_span(int64_t query, int64_t kv_head, int64_t span) const {
    const AttentionScoreBodies& bodies = kernels.attention_score;
    const kc_query_view& view = wave.queries[query];
    const kc_sequence_view& sequence = wave.sequences[view.sequence];
    const int32_t first = static_cast<int32_t>(span * kSpanPages);
    const int32_t last = std::min(sequence.n_pages, first + kSpanPages);
    const float* q = wave.q + (view.row * static_cast<int64_t>(layer.n_q_heads) + kv_head * group) * layer.head_dim;
    for (int64_t h = 0; h < group; ++h) span_of(query, kv_head * group + h, span) = {-kInfinity, 0.f, 0, 0};
    for (int32_t page = first; page < last; ++page) {
        const uint64_t seen =
            visible_tokens(sequence.pages[page].position, view.n_visible, wave.n_sink, view.visible_from);
        float* scores = weights_of(query, kv_head * group) + static_cast<int64_t>(page) * kPageTokens;
        if (seen != 0) {
            const Block block = block_of(layer.k, sequence, page, static_cast<int32_t>(kv_head), layer.head_dim);
            const Block next = block_of(layer.k, sequence, std::min(page + 1, sequence.n_pages - 1),
                                        static_cast<int32_t>(kv_head), layer.head_dim);
            bodies.dot_f16(block.data, next.data, q, group, layer.head_dim, layer.scale, scores, wave.token_stride);
        }
        for (int64_t h = 0; h < group; ++h) {
            SpanScore& result = span_of(query, kv_head * group + h, span);
            float* row = scores + h * wave.token_stride;
            result.n_nonfinite +=
                seen == ~uint64_t{0} ? bodies.scan(row, &result.max) : scan_seen(row, seen, &result.max);
        }
    }
}

void Score::weigh_span(int64_t query, int64_t kv_head, int64_t span) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const int64_t first = span * kSpanPages;
    const int64_t n_pages = std::min<int64_t>(sequence.n_pages - first, kSpanPages);
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        SpanScore& result = span_of(query, h, span);
        float max = -kInfinity;
        for (int64_t s = 0; s * kSpanPages < sequence.n_pages; ++s) max = std::max(max, span_of(query, h, s).max);
        // Where nothing counts, every weight is exp(-infinity).
        if (max == -kInfinity) max = 0.f;
        float sums[kSpanPages];
        kernels.attention_score.exponentials(weights_of(query, h) + first * kPageTokens, n_pages, max, sums);
        result.mass = 0.f;
        for (int64_t b = 0; b < n_pages; ++b) result.mass += sums[b];
    }
}

void Score::merge(int64_t query, int64_t q_head) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    float max = -kInfinity, mass = 0.f;
    int32_t n_nonfinite = 0;
    for (int64_t s = 0; s * kSpanPages < sequence.n_pages; ++s) {
        const SpanScore& span = span_of(query, q_head, s);
        max = std::max(max, span.max);
        mass += span.mass;
        n_nonfinite += span.n_nonfinite;
    }
    const int64_t at = query * layer.n_q_heads + q_head;
    params.max[at] = max == -kInfinity ? 0.f : max;
    params.mass[at] = mass;
    params.n_nonfinite[at] = n_nonfinite;
}

}  // namespace

uint64_t attention_score_scratch_bytes(CpuContext&, const kc_layer_view& layer, int64_t n_queries,
                                       int64_t token_stride) {
    return static_cast<uint64_t>(n_queries * layer.n_q_heads * ceil_div(token_stride, kSpanTokens)) * sizeof(SpanScore);
}

void attention_score(CpuContext& context, const kc_attention_score_params& params) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    const Score score{params,
                      wave,
                      layer,
                      *context.kernels,
                      layer.n_q_heads / layer.n_kv_heads,
                      ceil_div(wave.token_stride, kSpanTokens),
                      static_cast<SpanScore*>(params.scratch)};
    const int64_t n_heads = wave.kv_head_end - wave.kv_head_begin;
    const auto over_spans = [&](void (Score::*work)(int64_t, int64_t, int64_t) const) {
        context.pool.run(wave.n_queries * n_heads * score.n_spans, 1, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) {
                const int64_t span = i % score.n_spans, pair = i / score.n_spans;
                const int64_t query = pair / n_heads, kv_head = wave.kv_head_begin + pair % n_heads;
                if (span * kSpanPages >= wave.sequences[wave.queries[query].sequence].n_pages) continue;
                (score.*work)(query, kv_head, span);
            }
        });
    };
    over_spans(&Score::score_span);
    over_spans(&Score::weigh_span);
    for (int64_t query = 0; query < wave.n_queries; ++query) {
        for (int64_t h = wave.kv_head_begin * score.group; h < wave.kv_head_end * score.group; ++h) {
            score.merge(query, h);
        }
    }
}

}  // namespace kc
