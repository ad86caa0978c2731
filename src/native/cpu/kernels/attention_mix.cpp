#include "cpu/kernels/attention_mix.h"

#include <algorithm>
#include <cmath>

#include "cpu/kernels/mix_sums.h"

namespace kc {
namespace {

constexpr float kInfinity = __builtin_inff();

}  // namespace

// New weights for the kept tokens of coded keys, from their exact keys, against the maximum of the coded scores.
void Mix::rescore(int64_t query, int64_t q_head) const {
    const kc_query_view& view = wave.queries[query];
    const kc_sequence_view& sequence = wave.sequences[view.sequence];
    const int64_t list = query * layer.n_kv_heads + q_head / group;
    const int32_t* kept = params.kept + list * params.kept_stride;
    const uint8_t* const* rows = params.rows + list * params.kept_stride;
    const float* q = wave.q + (view.row * static_cast<int64_t>(layer.n_q_heads) + q_head) * layer.head_dim;
    const float max = params.max[query * layer.n_q_heads + q_head];
    float* weights = weights_of(query, q_head);
    const auto each_coded = [&](auto&& work) {
        for (int32_t i = 0; i < params.n_kept[list]; ++i) {
            if (!in_first_store(layer.k, sequence, kept[i] / kPageTokens)) work(weights[kept[i]], rows[i]);
        }
    };
    float highest = -kInfinity;
    each_coded([&](float& weight, const uint8_t* row) {
        const float score =
            kernels.attention_score.dot_row(reinterpret_cast<const uint16_t*>(row), q, layer.head_dim, layer.scale);
        weight = std::isfinite(score) ? score - max : -kInfinity;
        highest = std::max(highest, weight);
    });
    // Should the best exact score lie so far above the maximum that its weight nears overflow, all new weights are
    // shifted down together: what is not shifted with them is too small to count.
    constexpr float kFar = 40.f;
    float shift = 0.f;
    if (highest > kFar) shift = highest - kFar;
    // Or so far below it that weights vanish, as the maximum was that of kept tokens: then all are raised, unless a
    // token that keeps its weight is large.
    if (highest < -kFar && highest > -kInfinity) {
        const int64_t n_tokens = int64_t{sequence.n_pages} * kPageTokens;
        float others = 0.f;
        for (int64_t t = 0; t < n_tokens; ++t) others = std::max(others, weights[t]);
        if (others < kernels.attention_score.exponential(-kFar)) {
            shift = highest;
            const float factor = kernels.attention_score.exponential(std::min(-shift, 2 * kFar));
            for (int64_t t = 0; t < n_tokens; ++t) {
                if (weights[t] > 0.f) weights[t] *= factor;
            }
        }
    }
    each_coded([&](float& weight, const uint8_t*) { weight = kernels.attention_score.exponential(weight - shift); });
}

void Mix::mix_span(int64_t query, int64_t kv_head, int64_t span) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const int32_t first = static_cast<int32_t>(span * kSpanPages);
    const int32_t last = std::min(sequence.n_pages, first + kSpanPages);
    const int64_t list = query * layer.n_kv_heads + kv_head;
    const int32_t* kept = params.kept == nullptr ? nullptr : params.kept + list * params.kept_stride;
    const int32_t* kept_end = kept == nullptr ? nullptr : kept + params.n_kept[list];
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        std::fill_n(plain_of(query, h, span), 2 * layer.head_dim, 0.f);
        span_of(query, h, span) = {};
    }
    const int32_t* begin = std::lower_bound(kept, kept_end, first * kPageTokens);
    for (int32_t page = first; page < last; ++page) {
        const int32_t* end = begin;
        while (end < kept_end && *end < (page + 1) * kPageTokens) ++end;
        for (int64_t h = 0; h < group; h += kMaxGroup) {
            mix_page(query, kv_head * group + h, std::min<int64_t>(group - h, kMaxGroup), span, page, begin - kept,
                     end - kept);
        }
        begin = end;
    }
}

void Mix::finish(int64_t query, int64_t q_head) const {
    const kc_query_view& view = wave.queries[query];
    const kc_sequence_view& sequence = wave.sequences[view.sequence];
    float plain[kMaxHeadDim] = {}, rotated[kMaxHeadDim] = {};
    SpanMix total = {};
    for (int64_t s = 0; s * kSpanPages < sequence.n_pages; ++s) {
        const float* values = plain_of(query, q_head, s);
        const SpanMix& span = span_of(query, q_head, s);
        for (int32_t d = 0; d < layer.head_dim; ++d) plain[d] += values[d];
        for (int32_t d = 0; d < layer.head_dim; ++d) rotated[d] += values[layer.head_dim + d];
        total.rotated_mass += span.rotated_mass;
        total.mass += span.mass;
        total.tail += span.tail;
        total.squares += span.squares;
    }
    if (layer.v.first != nullptr) {
        add_rotated(kernels.codec, centre_of(layer.v, sequence, static_cast<int32_t>(q_head / group), layer.head_dim),
                    total.rotated_mass, layer.head_dim, rotated, plain);
    }
    const int64_t at = query * layer.n_q_heads + q_head;
    const bool of_all = params.kept == nullptr || params.mode == KC_MIX_EXACT_WEIGHTS;
    const float mass = of_all ? params.mass[at] : total.mass;
    // No weight at all, so nothing to say: attention_score counted why.
    const float inverse = mass > 0.f ? 1.f / mass : 0.f;
    float* out = params.out + (view.row * static_cast<int64_t>(layer.n_q_heads) + q_head) * layer.head_dim;
    for (int32_t d = 0; d < layer.head_dim; ++d) out[d] = plain[d] * inverse;
    if (params.mode != KC_MIX_SKETCHED) return;
    if (params.tail != nullptr) params.tail[at] = total.tail * inverse;
    if (params.error != nullptr) params.error[at] = std::sqrt(total.squares) * inverse;
}

namespace {

int64_t span_stride_of(const kc_layer_view& layer) { return 2 * int64_t{layer.head_dim} + kSpanMixFloats; }

}  // namespace

uint64_t attention_mix_scratch_bytes(CpuContext&, const kc_layer_view& layer, int64_t n_queries, int64_t token_stride) {
    const int64_t n_spans = ceil_div(token_stride, kSpanTokens);
    return static_cast<uint64_t>(n_queries * layer.n_q_heads * n_spans * span_stride_of(layer)) * sizeof(float);
}

void attention_mix(CpuContext& context, const kc_attention_mix_params& params) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    const Mix mix{params,
                  wave,
                  layer,
                  *context.kernels,
                  layer.n_q_heads / layer.n_kv_heads,
                  ceil_div(wave.token_stride, kSpanTokens),
                  span_stride_of(layer),
                  static_cast<float*>(params.scratch)};
    const int64_t n_heads = wave.kv_head_end - wave.kv_head_begin;
    const int64_t n_pairs = wave.n_queries * n_heads;
    if (params.mode == KC_MIX_SKETCHED && params.kept != nullptr && layer.exact.has_k) {
        const int64_t n_q_heads = n_heads * mix.group;
        context.pool.run(wave.n_queries * n_q_heads, 1, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) {
                mix.rescore(i / n_q_heads, wave.kv_head_begin * mix.group + i % n_q_heads);
            }
        });
    }
    context.pool.run(n_pairs * mix.n_spans, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t span = i % mix.n_spans, pair = i / mix.n_spans;
            const int64_t query = pair / n_heads;
            if (span * kSpanPages >= wave.sequences[wave.queries[query].sequence].n_pages) continue;
            mix.mix_span(query, wave.kv_head_begin + pair % n_heads, span);
        }
    });
    for (int64_t query = 0; query < wave.n_queries; ++query) {
        for (int64_t h = wave.kv_head_begin * mix.group; h < wave.kv_head_end * mix.group; ++h) mix.finish(query, h);
    }
}

}  // namespace kc
