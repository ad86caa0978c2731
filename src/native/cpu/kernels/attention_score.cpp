#include "cpu/kernels/attention_score.h"

#include <algorithm>

#include "cpu/context.h"
#include "cpu/kernels/coded_query.h"
#include "cpu/kernels/layout.h"
#include "cpu/kernels/wave_lists.h"

namespace kc {
namespace {

struct Score {
    const kc_attention_score_params& params;
    const kc_wave& wave;
    const kc_layer_view& layer;
    const Kernels& kernels;
    int64_t group;
    int64_t n_spans;
    SpanScore* spans;     // [query, span, q_head]: what one core leaves behind lies together
    float* references;    // [query, q_head], what weights are made against
    CodedQuery* queries;  // [query, q_head], for coded keys
    int16_t* wide;        // [query, q_head, head_dim], for q8 keys; bytes for the others

    float& reference_of(int64_t query, int64_t q_head) const { return references[query * layer.n_q_heads + q_head]; }
    float* weights_of(int64_t query, int64_t q_head) const {
        return params.weights + (query * layer.n_q_heads + q_head) * wave.token_stride;
    }
    SpanScore& span_of(int64_t query, int64_t q_head, int64_t span) const {
        return spans[(query * n_spans + span) * layer.n_q_heads + q_head];
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
    // Scores [heads, stride] of 64 tokens.
    struct Scores {
        float* at;
        int64_t stride;
    };
    uint64_t seen_of(int64_t query, int32_t page) const {
        const kc_query_view& view = wave.queries[query];
        const int32_t position = wave.sequences[view.sequence].pages[page].position;
        return visible_tokens(position, view.n_visible, wave.n_sink, view.visible_from);
    }
    void score_block(int64_t query, const Heads& heads, int32_t page, Place next, const Scores& scores) const;
    Tokens recent_of(int64_t query, int32_t page) const;
    void score_recent(int64_t query, const Heads& heads, int32_t page, Tokens recent, const Scores& scores) const;
    void score_page(int64_t query, const Heads& heads, int32_t page, Place next, const Scores& scores) const;
    struct Ends {
        int32_t first;
        int32_t last;
    };
    Ends ends_of(int64_t query) const;
    // Where both ends lie in one span, its scores tell.
    bool is_short(int64_t query) const { return wave.sequences[wave.queries[query].sequence].n_pages <= kSpanPages; }
    void find_references(int64_t query, int64_t kv_head) const;
    void weigh_page(int64_t query, const Heads& heads, int32_t page) const;
    void find_short_references(int64_t query, int64_t kv_head_begin, int64_t kv_head_end) const;
    void weigh_span(int64_t query, int64_t kv_head_begin, int64_t kv_head_end, int64_t span, bool raised) const;
    bool raise_references(int64_t query, int64_t kv_head) const;
    void merge(int64_t query, int64_t q_head) const;
};

void Score::prepare(int64_t query, int64_t kv_head) const {
    const kc_query_view& view = wave.queries[query];
    const kc_sequence_view& sequence = wave.sequences[view.sequence];
    if (sequence.first_page < 0) return;
    const float* centre = centre_of(layer.k, sequence, static_cast<int32_t>(kv_head), layer.head_dim);
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        const float* q = wave.q + (view.row * static_cast<int64_t>(layer.n_q_heads) + h) * layer.head_dim;
        const int64_t at = query * layer.n_q_heads + h;
        int16_t* words = wide + at * layer.head_dim;
        int8_t* bytes = reinterpret_cast<int8_t*>(wide) + at * layer.head_dim;
        queries[at] = layer.k.codec == KC_CODEC_Q8
                          ? code_query(kernels.codec, q, centre, layer.head_dim, layer.scale, words)
                          : code_query(kernels.codec, q, centre, layer.head_dim, layer.scale, bytes);
    }
}

// Scores of all 64 tokens of a page from its block; the block at `next` comes after it.
void Score::score_block(int64_t query, const Heads& heads, int32_t page, Place next, const Scores& scores) const {
    const kc_query_view& view = wave.queries[query];
    const kc_sequence_view& sequence = wave.sequences[view.sequence];
    const AttentionScoreBodies& bodies = kernels.attention_score;
    const int64_t head_dim = layer.head_dim;
    const int32_t kv_head = static_cast<int32_t>(heads.first / group);
    const Block block = block_of(layer.k, sequence, page, kv_head, layer.head_dim);
    if (block.codec == KC_CODEC_F16) {
        const float* q = wave.q + (view.row * static_cast<int64_t>(layer.n_q_heads) + heads.first) * head_dim;
        const Block ahead = block_of(layer.k, sequence, next.page, next.kv_head, layer.head_dim);
        bodies.keys_f16(block.data, ahead.data, q, heads.count, head_dim, layer.scale, scores.at, scores.stride);
        return;
    }
    if (page + kBlocksAhead < sequence.n_pages) {
        prefetch_block(block_of(layer.k, sequence, page + kBlocksAhead, kv_head, layer.head_dim), layer.head_dim);
    }
    const int64_t at = query * layer.n_q_heads + heads.first;
    const uint16_t* scales = block_scales(block.codec, block.data, layer.head_dim);
    if (block.codec == KC_CODEC_Q8) {
        bodies.keys_q8(block.data, scales, wide + at * head_dim, queries + at, heads.count, head_dim, scores.at,
                       scores.stride);
    } else {
        bodies.keys_levels(block.codec, block.data, scales, reinterpret_cast<int8_t*>(wide) + at * head_dim,
                           queries + at, heads.count, head_dim, scores.at, scores.stride);
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
void Score::score_recent(int64_t query, const Heads& heads, int32_t page, Tokens recent, const Scores& scores) const {
    const kc_query_view& view = wave.queries[query];
    const kc_page_view& at = wave.sequences[view.sequence].pages[page];
    const uint8_t* rows = exact_rows(layer.exact, at.exact, static_cast<int32_t>(heads.first / group));
    const float* q = wave.q + (view.row * static_cast<int64_t>(layer.n_q_heads) + heads.first) * layer.head_dim;
    for (int32_t t = recent.first; t < recent.last; ++t) {
        const uint16_t* row = reinterpret_cast<const uint16_t*>(rows + t * layer.exact.row_bytes);
        for (int64_t h = 0; h < heads.count; ++h) {
            scores.at[h * scores.stride + t] =
                kernels.attention_score.dot_row(row, q + h * layer.head_dim, layer.head_dim, layer.scale);
        }
    }
}

void Score::score_page(int64_t query, const Heads& heads, int32_t page, Place next, const Scores& scores) const {
    const uint64_t seen = seen_of(query, page);
    if (seen != 0) {
        score_block(query, heads, page, next, scores);
        score_recent(query, heads, page, recent_of(query, page), scores);
    }
    for (int64_t h = 0; h < heads.count; ++h) hide_unseen(scores.at + h * scores.stride, seen);
}

// The first and the last page that the query sees: sinks and neighbours, the likeliest to have the largest scores.
Score::Ends Score::ends_of(int64_t query) const {
    int32_t first = 0, last = wave.sequences[wave.queries[query].sequence].n_pages - 1;
    while (first < last && seen_of(query, first) == 0) ++first;
    while (first < last && seen_of(query, last) == 0) --last;
    return {first, last};
}

// Scores the ends before everything else: all spans need to know what came of it.
void Score::find_references(int64_t query, int64_t kv_head) const {
    const Ends ends = ends_of(query);
    float scores[kMaxGroup * kPageTokens];
    int32_t unused = 0;
    for (int64_t h = 0; h < group; h += kMaxGroup) {
        const Heads heads = {kv_head * group + h, std::min<int64_t>(group - h, kMaxGroup)};
        float* max = &reference_of(query, heads.first);
        std::fill_n(max, heads.count, kUnseen);
        const Place behind = {ends.last, static_cast<int32_t>(kv_head)};
        for (const int32_t page : {ends.first, ends.last}) {
            score_page(query, heads, page, behind, {scores, kPageTokens});
            for (int64_t i = 0; i < heads.count; ++i) {
                kernels.attention_score.scan(scores + i * kPageTokens, max + i, &unused);
            }
        }
    }
}

// The same from scores that are there.
void Score::find_short_references(int64_t query, int64_t kv_head_begin, int64_t kv_head_end) const {
    const Ends ends = ends_of(query);
    for (int64_t h = kv_head_begin * group; h < kv_head_end * group; ++h) {
        float& reference = reference_of(query, h);
        reference = kUnseen;
        for (const int32_t page : {ends.first, ends.last}) {
            float* scores = weights_of(query, h) + int64_t{page} * kPageTokens;
            kernels.attention_score.scan(scores, &reference, &span_of(query, h, 0).n_nonfinite);
        }
    }
}

void Score::weigh_page(int64_t query, const Heads& heads, int32_t page) const {
    for (int64_t h = heads.first; h < heads.first + heads.count; ++h) {
        kernels.attention_score.weigh(weights_of(query, h) + int64_t{page} * kPageTokens,
                                      reference_or_zero(reference_of(query, h)), &span_of(query, h, page / kSpanPages));
    }
}

// Page by page, the heads of a page one after the other, as they lie in memory; memory goes on while scores become
// weights.
void Score::weigh_span(int64_t query, int64_t kv_head_begin, int64_t kv_head_end, int64_t span, bool raised) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const int32_t first = static_cast<int32_t>(span * kSpanPages);
    const int32_t last = std::min(sequence.n_pages, first + kSpanPages);
    const int64_t head_begin = kv_head_begin * group, head_end = kv_head_end * group;
    const bool refers_to_itself = is_short(query) && !raised;
    for (int64_t h = head_begin; h < head_end; ++h) span_of(query, h, span) = {kUnseen, 0.f, 0, 0};
    for (int32_t page = first; page < last; ++page) {
        for (int64_t head = head_begin; head < head_end;) {
            const Heads heads = {head, std::min<int64_t>(group - head % group, kMaxGroup)};
            head += heads.count;
            const bool is_last = head == head_end;
            const Place next = {is_last && page + 1 < sequence.n_pages ? page + 1 : page,
                                static_cast<int32_t>(is_last ? kv_head_begin : head / group)};
            float* scores = weights_of(query, heads.first) + static_cast<int64_t>(page) * kPageTokens;
            score_page(query, heads, page, next, {scores, wave.token_stride});
            if (!refers_to_itself) weigh_page(query, heads, page);
        }
    }
    if (!refers_to_itself) return;
    find_short_references(query, kv_head_begin, kv_head_end);
    for (int32_t page = first; page < last; ++page) weigh_page(query, {head_begin, head_end - head_begin}, page);
}

// Whether a head's largest score lies too far above its reference; that one takes its place then.
bool Score::raise_references(int64_t query, int64_t kv_head) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    bool raised = false;
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
        float max = kUnseen;
        for (int64_t s = 0; s * kSpanPages < sequence.n_pages; ++s) max = std::max(max, span_of(query, h, s).max);
        float& reference = reference_of(query, h);
        if (reference_score(reference, max) == reference) continue;
        reference = max;
        raised = true;
    }
    return raised;
}

void Score::merge(int64_t query, int64_t q_head) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    float mass = 0.f;
    int32_t n_nonfinite = 0;
    for (int64_t s = 0; s * kSpanPages < sequence.n_pages; ++s) {
        const SpanScore& span = span_of(query, q_head, s);
        mass += span.mass;
        n_nonfinite += span.n_nonfinite;
    }
    const int64_t at = query * layer.n_q_heads + q_head;
    params.reference[at] = reference_or_zero(reference_of(query, q_head));
    params.mass[at] = mass;
    params.n_nonfinite[at] = n_nonfinite;
}

int64_t span_bytes(int64_t n_heads, int64_t token_stride) {
    return n_heads * ceil_div(token_stride, kSpanTokens) * static_cast<int64_t>(sizeof(SpanScore));
}
int64_t reference_bytes(int64_t n_heads) { return round_up(n_heads * 4, 64); }
int64_t query_bytes(const kc_layer_view& layer, int64_t n_heads) {
    return layer.k.codec == KC_CODEC_F16 ? 0 : n_heads * static_cast<int64_t>(sizeof(CodedQuery));
}

}  // namespace

uint64_t attention_score_scratch_bytes(CpuContext&, const kc_layer_view& layer, int64_t n_queries,
                                       int64_t token_stride) {
    const int64_t n_heads = n_queries * layer.n_q_heads;
    return static_cast<uint64_t>(span_bytes(n_heads, token_stride) + reference_bytes(n_heads) +
                                 query_bytes(layer, n_heads) + 2 * n_heads * layer.head_dim);
}

void attention_score(CpuContext& context, const kc_attention_score_params& params) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    uint8_t* base = static_cast<uint8_t*>(params.scratch);
    const int64_t n_q_lists = int64_t{wave.n_queries} * layer.n_q_heads;
    uint8_t* references = base + span_bytes(n_q_lists, wave.token_stride);
    uint8_t* queries = references + reference_bytes(n_q_lists);
    const Score score{params,
                      wave,
                      layer,
                      *context.kernels,
                      layer.n_q_heads / layer.n_kv_heads,
                      ceil_div(wave.token_stride, kSpanTokens),
                      reinterpret_cast<SpanScore*>(base),
                      reinterpret_cast<float*>(references),
                      reinterpret_cast<CodedQuery*>(queries),
                      reinterpret_cast<int16_t*>(queries + query_bytes(layer, n_q_lists))};
    const WaveLists lists{wave};
    const bool coded = layer.k.codec != KC_CODEC_F16, any_long = wave.token_stride > kSpanTokens;
    if (coded || any_long) {
        const int64_t grain = any_long ? 1 : std::max<int64_t>(1, 16 / score.group);
        context.pool.run(lists.n(), grain, [&](int64_t begin, int64_t end, int) {
            for (int64_t list = begin; list < end; ++list) {
                const int64_t query = lists.query_of(list), kv_head = lists.head_of(list);
                if (coded) score.prepare(query, kv_head);
                if (!score.is_short(query)) score.find_references(query, kv_head);
            }
        });
    }
    bool raised = false;
    const auto weigh = [&](int64_t list, int64_t last, int64_t span) {
        const int64_t query = lists.query_of(list), begin = lists.head_of(list), end = lists.head_of(last - 1) + 1;
        score.weigh_span(query, begin, end, span, raised);
    };
    lists.over_span_heads(context.pool, 0, lists.n(), weigh);
    raised = true;
    for (int64_t list = 0; list < lists.n(); ++list) {
        if (!score.raise_references(lists.query_of(list), lists.head_of(list))) continue;
        lists.over_span_heads(context.pool, list, 1, weigh);
    }
    for (int64_t query = 0; query < wave.n_queries; ++query) {
        for (int64_t h = wave.kv_head_begin * score.group; h < wave.kv_head_end * score.group; ++h) {
            score.merge(query, h);
        }
    }
}

}  // namespace kc
