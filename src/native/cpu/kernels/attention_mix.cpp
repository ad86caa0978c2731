#include "cpu/kernels/attention_mix.h"

#include <algorithm>
#include <cmath>

#include "cpu/kernels/mix_sums.h"
#include "cpu/kernels/wave_lists.h"

namespace kc {
namespace {

constexpr float kInfinity = __builtin_inff();

}  // namespace

// New weights for the kept tokens [kept_begin, kept_end) of coded keys, from their exact keys, against the maximum of
// the coded scores and `shift`; returns the highest exponent before the shift.
float Mix::rescore(int64_t query, int64_t q_head, int64_t kept_begin, int64_t kept_end, float shift) const {
    const kc_query_view& view = wave.queries[query];
    const kc_sequence_view& sequence = wave.sequences[view.sequence];
    const int64_t list = query * layer.n_kv_heads + q_head / group;
    const int32_t* kept = params.kept + list * params.kept_stride;
    const uint8_t* const* rows = params.rows + list * params.kept_stride;
    const float* q = wave.q + (view.row * static_cast<int64_t>(layer.n_q_heads) + q_head) * layer.head_dim;
    const float reference = params.reference[query * layer.n_q_heads + q_head];
    float* weights = weights_of(query, q_head);
    float highest = -kInfinity;
    for (int64_t i = kept_begin; i < kept_end; ++i) {
        if (in_first_store(layer.k, sequence, kept[i] / kPageTokens)) continue;
        const auto row = reinterpret_cast<const uint16_t*>(rows[i]);
        const float score = kernels.attention_score.dot_row(row, q, layer.head_dim, layer.scale);
        const float exponent = std::isfinite(score) ? score - reference : -kInfinity;
        highest = std::max(highest, exponent);
        weights[kept[i]] = kernels.attention_score.exponential(exponent - shift);
    }
    return highest;
}

// Where the best exact score lies very far from the maximum, weights overflow or vanish. Then they are made once more;
// returns whether they were.
bool Mix::rescore_far(int64_t query, int64_t q_head) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const int64_t n_kept = params.n_kept[query * layer.n_kv_heads + q_head / group];
    float highest = -kInfinity;
    for (int64_t s = 0; s * kSpanPages < sequence.n_pages; ++s) {
        highest = std::max(highest, span_of(query, q_head, s).highest);
    }
    // The largest coded score may lie half as far above the reference.
    constexpr float kFarAbove = 60.f, kFarBelow = 40.f;
    if (highest > kFarAbove) {
        // All new weights are shifted down together: what is not shifted with them is too small to count.
        rescore(query, q_head, 0, n_kept, highest - kFarAbove);
        return true;
    }
    if (!(highest < -kFarBelow && highest > -kInfinity)) return false;
    // The maximum was that of kept tokens: all are raised, unless a token that keeps its weight is large.
    const int64_t n_tokens = int64_t{sequence.n_pages} * kPageTokens;
    float* weights = weights_of(query, q_head);
    const float vanishing = kernels.attention_score.exponential(-kFarBelow);
    if (*std::max_element(weights, weights + n_tokens) >= vanishing) return false;
    const float factor = kernels.attention_score.exponential(std::min(-highest, 2 * kFarBelow));
    for (int64_t t = 0; t < n_tokens; ++t) weights[t] *= factor;
    rescore(query, q_head, 0, n_kept, highest);
    return true;
}

// Those of the list's kept tokens that lie in spans [first, last).
Mix::Range Mix::kept_of(int64_t list, int64_t first, int64_t last) const {
    if (params.kept == nullptr) return {0, 0};
    const int32_t* kept = params.kept + list * params.kept_stride;
    const int32_t* end = kept + params.n_kept[list];
    const int32_t* from = std::lower_bound(kept, end, first * kSpanTokens);
    return {from - kept, std::lower_bound(from, end, last * kSpanTokens) - kept};
}

// Rows lie anywhere: read one by one, each would be waited for.
void Mix::prefetch_kept(int64_t list, int64_t first, int64_t last) const {
    const Range range = kept_of(list, first, last);
    for (int64_t i = range.begin; i < range.end; ++i) {
        prefetch_row(params.rows[list * params.kept_stride + i], layer.exact.row_bytes);
    }
}

// One of the heads that are mixed in turn.
void Mix::mix_span(int64_t query, int64_t kv_head, Range heads, int64_t span, bool rescored) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const int32_t first = static_cast<int32_t>(span * kSpanPages);
    const int32_t last = std::min(sequence.n_pages, first + kSpanPages);
    const bool is_last = kv_head + 1 == heads.end;
    const Course course = {last, static_cast<int32_t>(is_last ? heads.begin : kv_head + 1), is_last ? last : first};
    const Range kept = kept_of(query * layer.n_kv_heads + kv_head, span, span + 1);
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        std::fill_n(plain_of(query, h, span), n_sums(layer) * layer.head_dim, 0.f);
        span_of(query, h, span) = {};
        if (!rescored) span_of(query, h, span).highest = rescore(query, h, kept.begin, kept.end, 0.f);
    }
    for (int64_t h = 0; h < group; h += kMaxGroup) {
        mix_heads(query, kv_head * group + h, std::min<int64_t>(group - h, kMaxGroup), span, kept.begin, kept.end,
                  course);
    }
}

// The kept rows of some spans of a list.
void Mix::mix_part(int64_t query, int64_t kv_head, const SpanPart& part) const {
    const int64_t list = query * layer.n_kv_heads + kv_head;
    const int64_t n_spans = ceil_div(wave.sequences[wave.queries[query].sequence].n_pages, kSpanPages);
    const int64_t end = std::min(part.end, n_spans);
    const bool has_last = part.has_last() && part.last < n_spans;
    // All at once: next to the weights of a span, rows of the next would wait for places on the way from memory.
    prefetch_kept(list, part.begin, end);
    if (has_last) prefetch_kept(list, part.last, n_spans);
    for (int64_t span = part.begin; span < end; ++span) mix_span(query, kv_head, {kv_head, kv_head + 1}, span, true);
    if (has_last) mix_span(query, kv_head, {kv_head, kv_head + 1}, part.last, true);
}

void Mix::finish_list(int64_t query, int64_t kv_head) const {
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) finish(query, h);
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
        for (int32_t d = 0; n_sums(layer) > 1 && d < layer.head_dim; ++d) rotated[d] += values[layer.head_dim + d];
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
    if (!measures()) return;
    // Scoring again changed the mass of all.
    const float all = params.mode == KC_MIX_SKETCHED ? total.mass : params.mass[at],
                share = all > 0.f ? 1.f / all : 0.f;
    if (params.tail != nullptr) params.tail[at] = total.tail * share;
    if (params.error != nullptr) params.error[at] = std::sqrt(total.squares) * share;
}

namespace {

int64_t span_stride_of(const kc_layer_view& layer) { return n_sums(layer) * layer.head_dim + kSpanMixFloats; }

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
    const WaveLists lists{wave};
    if (params.kept != nullptr && params.mode != KC_MIX_SKETCHED) {
        lists.over_parts(
            context.pool, 0, lists.n(),
            [&](int64_t list, const SpanPart& part) { mix.mix_part(lists.query_of(list), lists.head_of(list), part); },
            [&](int64_t list) { mix.finish_list(lists.query_of(list), lists.head_of(list)); });
        return;
    }
    lists.over_span_heads(context.pool, 0, lists.n(), [&](int64_t first, int64_t last, int64_t span) {
        // Those of the next span as well: whoever mixes this one most likely mixes that one next.
        for (int64_t list = first; list < last; ++list) mix.prefetch_kept(lists.place_of(list), span, span + 2);
        for (int64_t list = first; list < last; ++list) {
            mix.mix_span(lists.query_of(list), lists.head_of(list), {lists.head_of(first), lists.head_of(last - 1) + 1},
                         span, !mix.rescores());
        }
    });
    for (int64_t list = 0; mix.rescores() && list < lists.n(); ++list) {
        const int64_t query = lists.query_of(list), kv_head = lists.head_of(list);
        bool again = false;
        for (int64_t h = kv_head * mix.group; h < (kv_head + 1) * mix.group; ++h) again |= mix.rescore_far(query, h);
        for (int64_t span = 0; again && span * kSpanPages < lists.sequence_of(list).n_pages; ++span) {
            mix.mix_span(query, kv_head, {kv_head, kv_head + 1}, span, true);
        }
    }
    // Sums of spans to add up; where there are fewer, handing them out would take longer.
    constexpr int64_t kFinishFloats = 8192;
    const int64_t list_floats = mix.group * mix.n_spans * mix.span_stride;
    context.pool.run(lists.n(), std::max<int64_t>(1, kFinishFloats / list_floats),
                     [&](int64_t begin, int64_t end, int) {
                         for (int64_t list = begin; list < end; ++list)
                             mix.finish_list(lists.query_of(list), lists.head_of(list));
                     });
}

}  // namespace kc
