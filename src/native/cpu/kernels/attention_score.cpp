#include "cpu/kernels/attention_score.h"

#include <algorithm>
#include <cmath>

#include "cpu/context.h"
#include "cpu/kernels/layout.h"
#include "cpu/kernels/wave_lists.h"

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
    CodedQuery* queries;  // [query, q_head], for coded keys
    int16_t* wide;        // [query, q_head, head_dim], for q8 keys; bytes for the others

    float* weights_of(int64_t query, int64_t q_head) const {
        return params.weights + (query * layer.n_q_heads + q_head) * wave.token_stride;
    }
    SpanScore& span_of(int64_t query, int64_t q_head, int64_t span) const {
        return spans[(query * layer.n_q_heads + q_head) * n_spans + span];
    }

    void prepare(int64_t query, int64_t kv_head) const;
    // Tokens [first, last) of a page.
    struct Tokens {
        int32_t first;
        int32_t last;
    };
    // Query heads [first, first + count) of one KV head, at most kMaxGroup.
    struct Heads {
        int64_t first;
        int64_t count;
    };
    // The block of a page and KV head.
    struct Place {
        int32_t page;
        int32_t kv_head;
    };
    void score_block(int64_t query, const Heads& heads, int32_t page, Place next, float* scores, float* max,
                     int32_t* n_nonfinite) const;
    Tokens recent_of(int64_t query, int32_t page) const;
    void score_recent(int64_t query, const Heads& heads, int32_t page, Tokens recent, float* scores) const;
    void score_page(int64_t query, const Heads& heads, int32_t page, Place next, float* max,
                    int32_t* n_nonfinite) const;
    void score_span(int64_t query, int64_t kv_head_begin, int64_t kv_head_end, int64_t span) const;
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

void Score::prepare(int64_t query, int64_t kv_head) const {
    const kc_query_view& view = wave.queries[query];
    const kc_sequence_view& sequence = wave.sequences[view.sequence];
    const int32_t head_dim = layer.head_dim;
    if (sequence.first_page < 0) return;
    const float* centre = centre_of(layer.k, sequence, static_cast<int32_t>(kv_head), head_dim);
    const bool wide_numbers = layer.k.codec == KC_CODEC_Q8;
    const float most = wide_numbers ? 32767.f : 127.f;
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        float q[kMaxHeadDim];
        std::copy_n(wave.q + (view.row * static_cast<int64_t>(layer.n_q_heads) + h) * head_dim, head_dim, q);
        kernels.codec.rotate(q, head_dim);
        float largest = 0.f, offset = 0.f;
        bool finite = true;
        for (int32_t d = 0; d < head_dim; ++d) {
            largest = std::max(largest, std::fabs(q[d]));
            finite = finite && std::isfinite(q[d]);
            offset += q[d] * centre[d];
        }
        const int64_t at = query * layer.n_q_heads + h;
        int16_t* words = wide + at * head_dim;
        int8_t* bytes = reinterpret_cast<int8_t*>(wide) + at * head_dim;
        // A query that is not finite makes every score NaN, to be counted.
        const float step = finite ? largest / most : NAN;
        int32_t sum = 0;
        for (int32_t d = 0; d < head_dim; ++d) {
            const long number = step > 0.f ? std::lrintf(std::min(most, std::max(-most, q[d] / step))) : 0;
            if (wide_numbers) {
                words[d] = static_cast<int16_t>(number);
            } else {
                bytes[d] = static_cast<int8_t>(number);
            }
            sum += static_cast<int32_t>(number);
        }
        // Before there is a centre this is nonsense, and there is no coded row that it could meet.
        queries[at] = {layer.scale * step, layer.scale * offset, sum, 0};
    }
}

// Scores of all 64 tokens of a page from its block; the block at `next` comes after it.
void Score::score_block(int64_t query, const Heads& heads, int32_t page, Place next, float* scores, float* max,
                        int32_t* n_nonfinite) const {
    const kc_query_view& view = wave.queries[query];
    const kc_sequence_view& sequence = wave.sequences[view.sequence];
    const AttentionScoreBodies& bodies = kernels.attention_score;
    const int64_t head_dim = layer.head_dim;
    const int32_t kv_head = static_cast<int32_t>(heads.first / group);
    const Block block = block_of(layer.k, sequence, page, kv_head, layer.head_dim);
    if (block.codec == KC_CODEC_F16) {
        const float* q = wave.q + (view.row * static_cast<int64_t>(layer.n_q_heads) + heads.first) * head_dim;
        const Block ahead = block_of(layer.k, sequence, next.page, next.kv_head, layer.head_dim);
        bodies.keys_f16(block.data, ahead.data, q, heads.count, head_dim, layer.scale, scores, wave.token_stride, max,
                        n_nonfinite);
        return;
    }
    if (page + kBlocksAhead < sequence.n_pages) {
        prefetch_block(block_of(layer.k, sequence, page + kBlocksAhead, kv_head, layer.head_dim), layer.head_dim);
    }
    const int64_t at = query * layer.n_q_heads + heads.first;
    const uint16_t* scales = block_scales(block.codec, block.data, layer.head_dim);
    if (block.codec == KC_CODEC_Q8) {
        bodies.keys_q8(block.data, scales, wide + at * head_dim, queries + at, heads.count, head_dim, scores,
                       wave.token_stride, max, n_nonfinite);
    } else {
        bodies.keys_levels(block.codec, block.data, scales, reinterpret_cast<int8_t*>(wide) + at * head_dim,
                           queries + at, heads.count, head_dim, scores, wave.token_stride, max, n_nonfinite);
    }
}

// Those tokens of a page that are recent and whose exact keys lie in fast memory.
Score::Tokens Score::recent_of(int64_t query, int32_t page) const {
    const kc_query_view& view = wave.queries[query];
    const kc_sequence_view& sequence = wave.sequences[view.sequence];
    const kc_page_view& at = sequence.pages[page];
    if (layer.k.codec == KC_CODEC_F16 || in_first_store(layer.k, sequence, page)) return {0, 0};
    if (!layer.exact.has_k || at.exact < 0) return {0, 0};
    return {std::max(0, view.n_visible - wave.n_recent - at.position),
            std::min<int32_t>(kPageTokens, view.n_visible - at.position)};
}

// These are scored from their exact keys.
void Score::score_recent(int64_t query, const Heads& heads, int32_t page, Tokens recent, float* scores) const {
    const kc_query_view& view = wave.queries[query];
    const kc_page_view& at = wave.sequences[view.sequence].pages[page];
    const uint8_t* rows = exact_rows(layer.exact, at.exact, static_cast<int32_t>(heads.first / group));
    const float* q = wave.q + (view.row * static_cast<int64_t>(layer.n_q_heads) + heads.first) * layer.head_dim;
    for (int32_t t = recent.first; t < recent.last; ++t) {
        const uint16_t* row = reinterpret_cast<const uint16_t*>(rows + t * layer.exact.row_bytes);
        for (int64_t h = 0; h < heads.count; ++h) {
            scores[h * wave.token_stride + t] =
                kernels.attention_score.dot_row(row, q + h * layer.head_dim, layer.head_dim, layer.scale);
        }
    }
}

void Score::score_page(int64_t query, const Heads& heads, int32_t page, Place next, float* max,
                       int32_t* n_nonfinite) const {
    const kc_query_view& view = wave.queries[query];
    const kc_page_view& at = wave.sequences[view.sequence].pages[page];
    const uint64_t seen = visible_tokens(at.position, view.n_visible, wave.n_sink, view.visible_from);
    float* scores = weights_of(query, heads.first) + static_cast<int64_t>(page) * kPageTokens;
    const Tokens recent = recent_of(query, page);
    if (seen == ~uint64_t{0} && recent.first >= recent.last) {
        score_block(query, heads, page, next, scores, max, n_nonfinite);
        return;
    }
    if (seen != 0) {
        // What the block's other tokens come to is not counted.
        float any_max[kMaxGroup] = {};
        int32_t any_count[kMaxGroup] = {};
        score_block(query, heads, page, next, scores, any_max, any_count);
        score_recent(query, heads, page, recent, scores);
    }
    for (int64_t h = 0; h < heads.count; ++h) {
        n_nonfinite[h] += scan_seen(scores + h * wave.token_stride, seen, &max[h]);
    }
}

// Page by page, the heads of a page one after the other, as they lie in memory.
void Score::score_span(int64_t query, int64_t kv_head_begin, int64_t kv_head_end, int64_t span) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const int32_t first = static_cast<int32_t>(span * kSpanPages);
    const int32_t last = std::min(sequence.n_pages, first + kSpanPages);
    constexpr int kAtATime = 8;
    for (int64_t head = kv_head_begin * group; head < kv_head_end * group;) {
        Heads all[kAtATime];
        float max[kAtATime][kMaxGroup];
        int32_t n_nonfinite[kAtATime][kMaxGroup] = {};
        int n = 0;
        for (; n < kAtATime && head < kv_head_end * group; head += all[n++].count) {
            all[n] = {head, std::min<int64_t>(group - head % group, kMaxGroup)};
            std::fill_n(max[n], kMaxGroup, -kInfinity);
        }
        for (int32_t page = first; page < last; ++page) {
            for (int i = 0; i < n; ++i) {
                const int32_t next_page = i + 1 < n || page + 1 == sequence.n_pages ? page : page + 1;
                const int64_t next_head = all[i + 1 < n ? i + 1 : 0].first / group;
                const Place next = {next_page, static_cast<int32_t>(next_head)};
                score_page(query, all[i], page, next, max[i], n_nonfinite[i]);
            }
        }
        for (int i = 0; i < n; ++i) {
            for (int64_t h = 0; h < all[i].count; ++h) {
                span_of(query, all[i].first + h, span) = {max[i][h], 0.f, n_nonfinite[i][h], 0};
            }
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

int64_t span_bytes(int64_t n_heads, int64_t token_stride) {
    return n_heads * ceil_div(token_stride, kSpanTokens) * static_cast<int64_t>(sizeof(SpanScore));
}
int64_t query_bytes(const kc_layer_view& layer, int64_t n_heads) {
    return layer.k.codec == KC_CODEC_F16 ? 0 : n_heads * static_cast<int64_t>(sizeof(CodedQuery));
}

}  // namespace

uint64_t attention_score_scratch_bytes(CpuContext&, const kc_layer_view& layer, int64_t n_queries,
                                       int64_t token_stride) {
    const int64_t n_heads = n_queries * layer.n_q_heads;
    return static_cast<uint64_t>(span_bytes(n_heads, token_stride) + query_bytes(layer, n_heads) +
                                 2 * n_heads * layer.head_dim);
}

void attention_score(CpuContext& context, const kc_attention_score_params& params) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    uint8_t* base = static_cast<uint8_t*>(params.scratch);
    const int64_t n_q_lists = int64_t{wave.n_queries} * layer.n_q_heads;
    const Score score{
        params,
        wave,
        layer,
        *context.kernels,
        layer.n_q_heads / layer.n_kv_heads,
        ceil_div(wave.token_stride, kSpanTokens),
        reinterpret_cast<SpanScore*>(base),
        reinterpret_cast<CodedQuery*>(base + span_bytes(n_q_lists, wave.token_stride)),
        reinterpret_cast<int16_t*>(base + span_bytes(n_q_lists, wave.token_stride) + query_bytes(layer, n_q_lists))};
    const WaveLists lists{wave};
    if (layer.k.codec != KC_CODEC_F16) {
        context.pool.run(lists.n(), std::max<int64_t>(1, 16 / score.group), [&](int64_t begin, int64_t end, int) {
            for (int64_t list = begin; list < end; ++list) score.prepare(lists.query_of(list), lists.head_of(list));
        });
    }
    lists.over_span_heads(context.pool, 0, lists.n(), [&](int64_t list, int64_t last, int64_t span) {
        score.score_span(lists.query_of(list), lists.head_of(list), lists.head_of(last - 1) + 1, span);
    });
    lists.over_spans(context.pool, 0, lists.n(), [&](int64_t list, int64_t span) {
        score.weigh_span(lists.query_of(list), lists.head_of(list), span);
    });
    for (int64_t query = 0; query < wave.n_queries; ++query) {
        for (int64_t h = wave.kv_head_begin * score.group; h < wave.kv_head_end * score.group; ++h) {
            score.merge(query, h);
        }
    }
}

}  // namespace kc
