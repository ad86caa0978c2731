#include "cache/policy.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace kc {
namespace {

constexpr uint32_t bit(int32_t codec) { return 1u << codec; }
constexpr uint32_t kLow = bit(KC_CODEC_Q4) | bit(KC_CODEC_Q3) | bit(KC_CODEC_Q2);
constexpr uint32_t kHigh = bit(KC_CODEC_F16) | bit(KC_CODEC_Q8);
constexpr uint32_t kAny = kLow | kHigh;

// In the order of KC_POLICY_*.
constexpr PolicyRow kPolicies[] = {
    {"full", kAny, kAny, 0, KC_CODEC_F16, KC_CODEC_F16, 0, false, false},
    {"window", kAny, kAny, 0, KC_CODEC_F16, KC_CODEC_F16, 0, false, true},
    {"kcache", kHigh, kHigh, 0, KC_CODEC_F16, KC_CODEC_F16, 0, true, false},
    {"sketch", kAny, bit(KC_CODEC_F16), kLow | bit(KC_CODEC_Q8), KC_CODEC_Q4, KC_CODEC_F16, KC_CODEC_Q2, true, false},
};

constexpr const char* kCodecNames[] = {"default", "f16", "q8", "q4", "q3", "q2"};

void check_between(int64_t value, int64_t low, int64_t high, const char* name) {
    if (value >= low && value <= high) return;
    fail(KC_ERR_ARGUMENT, "desc->%s is %lld, but must be %lld to %lld", name, static_cast<long long>(value),
         static_cast<long long>(low), static_cast<long long>(high));
}

int32_t choose_codec(const Backend& backend, const kc_cache_desc& desc, const PolicyRow& row, const char* name,
                     int32_t codec, int32_t otherwise, uint32_t offered) {
    check_between(codec, KC_CODEC_DEFAULT, KC_CODEC_Q2, name);
    if (codec == KC_CODEC_DEFAULT) codec = otherwise;
    if (codec == KC_CODEC_DEFAULT) return codec;
    if (!(offered & bit(codec))) {
        char names[64] = "";
        int n = 0;
        for (int32_t c = KC_CODEC_F16; c <= KC_CODEC_Q2; ++c) {
            if (offered & bit(c))
                n += std::snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", kCodecNames[c]);
        }
        fail(KC_ERR_UNSUPPORTED, "desc->%s is %s, but policy %s offers: %s", name, kCodecNames[codec], row.name,
             n ? names : "none (leave it 0)");
    }
    if (backend.block_bytes(codec, desc.head_dim) == 0) {
        fail(KC_ERR_UNSUPPORTED, "desc->%s is %s, which is not offered for head_dim %d; use f16", name,
             kCodecNames[codec], desc.head_dim);
    }
    return codec;
}

void check_bound(float value, const char* name) {
    if (std::isfinite(value) && value >= 0 && value < 1) return;
    fail(KC_ERR_ARGUMENT, "desc->%s is %g, but must be 0 (off) or a weight below 1", name, static_cast<double>(value));
}

// Most pages that `n_tokens` adjacent tokens touch, wherever they begin.
int64_t pages_touched(int64_t n_tokens) { return n_tokens < 1 ? 0 : (n_tokens + kPageTokens - 2) / kPageTokens + 1; }

void check_numbers(const kc_cache_desc& desc) {
    check_between(desc.n_layers, 1, 4096, "n_layers");
    check_between(desc.n_kv_heads, 1, 4096, "n_kv_heads");
    check_between(desc.n_q_heads, 1, 65536, "n_q_heads");
    if (desc.n_q_heads % desc.n_kv_heads != 0) {
        fail(KC_ERR_ARGUMENT, "desc->n_q_heads is %d, but must be a multiple of n_kv_heads, which is %d",
             desc.n_q_heads, desc.n_kv_heads);
    }
    check_between(desc.head_dim, 16, 256, "head_dim");
    if (desc.head_dim % 16 != 0) {
        fail(KC_ERR_ARGUMENT, "desc->head_dim is %d, but must be a multiple of 16", desc.head_dim);
    }
    check_between(desc.n_context, 1, 1 << 26, "n_context");
    check_between(desc.n_sequences, 0, 1 << 16, "n_sequences");
    check_between(desc.n_batch_tokens, 0, 1 << 20, "n_batch_tokens");
    check_between(desc.n_pool_tokens, 0, int64_t(1) << 36, "n_pool_tokens");
    if (!std::isfinite(desc.scale)) {
        fail(KC_ERR_ARGUMENT, "desc->scale is %g, but must be finite; 0 means 1 / sqrt(head_dim)",
             static_cast<double>(desc.scale));
    }
    check_between(desc.policy, KC_POLICY_FULL, KC_POLICY_SKETCH, "policy");
    check_between(desc.mode, KC_MODE_RENORMALIZED, KC_MODE_EXACT_WEIGHTS, "mode");
    check_between(desc.select, KC_SELECT_GROUP, KC_SELECT_UNION, "select");
    check_between(desc.n_keep, 0, 1 << 26, "n_keep");
    check_between(desc.n_keep_max, 0, 1 << 26, "n_keep_max");
    check_between(desc.n_sink, 0, kPageTokens, "n_sink");
    check_between(desc.n_recent, desc.policy == KC_POLICY_FULL ? 0 : 1, 1 << 26, "n_recent");
    check_between(desc.n_dense_layers, 0, desc.n_layers, "n_dense_layers");
    check_bound(desc.max_tail, "max_tail");
    check_bound(desc.max_error, "max_error");
}

void check_combination(const kc_cache_desc& desc, const PolicyRow& row) {
    if (desc.mode == KC_MODE_EXACT_WEIGHTS && row.selects && row.v_sketch_default != 0) {
        fail(KC_ERR_UNSUPPORTED, "desc->mode is exact-weights, but policy %s counts all tokens; use renormalized (0)",
             row.name);
    }
    if (row.forgets && desc.mode == KC_MODE_EXACT_WEIGHTS) {
        fail(KC_ERR_UNSUPPORTED,
             "desc->mode is exact-weights, but policy %s does not know the weights of what it forgot; use "
             "renormalized (0)",
             row.name);
    }
    if (row.forgets && (desc.max_tail > 0 || desc.max_error > 0)) {
        fail(KC_ERR_UNSUPPORTED,
             "desc->%s is set, but policy %s cannot bring back what it forgot; leave it 0 or use kcache",
             desc.max_tail > 0 ? "max_tail" : "max_error", row.name);
    }
    if (row.selects && (desc.max_tail > 0 || desc.max_error > 0) && desc.n_keep_max != 0 &&
        desc.n_keep_max < desc.n_keep) {
        fail(KC_ERR_ARGUMENT, "desc->n_keep_max is %d, but must be 0 (all) or at least n_keep, which is %d",
             desc.n_keep_max, desc.n_keep);
    }
}

void fill_pages(const kc_cache_desc& desc, CacheShape& shape) {
    const int64_t context_pages = ceil_div(shape.n_context, kPageTokens);
    int64_t sequence_pages = context_pages;
    int64_t pool_pages = context_pages * shape.n_sequences;
    if (shape.row->forgets) {
        // Sinks, the recent tokens of the first new token, and the new tokens themselves.
        const int64_t n_sink_pages = shape.n_sink > 0 ? 1 : 0;
        const int64_t n_seen_pages = n_sink_pages + pages_touched(int64_t(shape.n_recent) - 1 + shape.n_batch_tokens);
        // Sums run by spans of the pages that are there. Where these can be more than one span, pages go by whole
        // spans, so that a token is in the same one however the text was cut into forwards.
        shape.n_forget_pages = n_seen_pages > kSpanPages ? kSpanPages : 1;
        sequence_pages = std::min(context_pages, n_seen_pages + shape.n_forget_pages - 1);
        const int64_t n_kept_pages = n_sink_pages + pages_touched(shape.n_recent) + shape.n_forget_pages;
        const int64_t n_new_pages = ceil_div(shape.n_batch_tokens, kPageTokens);
        pool_pages = std::min(pool_pages, shape.n_sequences * n_kept_pages + n_new_pages);
    }
    if (desc.n_pool_tokens > 0) {
        // However the tokens are spread: each sequence may leave a page that is all but empty.
        const int64_t asked = (desc.n_pool_tokens + int64_t(kPageTokens - 1) * shape.n_sequences) / kPageTokens;
        pool_pages = std::min(pool_pages, std::max<int64_t>(asked, 1));
    }
    if (pool_pages > INT32_MAX / kPageTokens) {
        fail(KC_ERR_ARGUMENT,
             "desc->n_sequences %d times n_context %d are more tokens than a pool holds (%d); lower n_pool_tokens",
             shape.n_sequences, shape.n_context, INT32_MAX);
    }
    shape.n_sequence_pages = static_cast<int32_t>(std::min(sequence_pages, pool_pages));
    shape.n_pool_pages = static_cast<int32_t>(pool_pages);
}

}  // namespace

CacheShape resolve(const Backend& backend, const kc_cache_desc& desc) {
    check_numbers(desc);
    const PolicyRow& row = kPolicies[desc.policy];
    check_combination(desc, row);

    CacheShape shape = {};
    shape.row = &row;
    shape.n_layers = desc.n_layers;
    shape.n_dense_layers = row.selects ? desc.n_dense_layers : desc.n_layers;
    shape.n_q_heads = desc.n_q_heads;
    shape.n_kv_heads = desc.n_kv_heads;
    shape.head_dim = desc.head_dim;
    shape.scale = desc.scale != 0 ? desc.scale : 1.0f / std::sqrt(static_cast<float>(desc.head_dim));
    shape.n_context = desc.n_context;
    shape.n_sequences = std::max(desc.n_sequences, 1);
    shape.n_batch_tokens = desc.n_batch_tokens ? desc.n_batch_tokens : 256;
    shape.n_queries = std::min(shape.n_sequences, shape.n_batch_tokens);
    shape.select = desc.select;
    shape.n_sink = row.selects || row.forgets ? desc.n_sink : 0;
    shape.n_recent = row.selects || row.forgets ? std::min(desc.n_recent, desc.n_context) : 0;
    fill_pages(desc, shape);

    const int32_t k = choose_codec(backend, desc, row, "k_codec", desc.k_codec, row.k_default, row.k_codecs);
    const int32_t v = choose_codec(backend, desc, row, "v_codec", desc.v_codec, row.v_default, row.v_codecs);
    const int32_t sketch =
        choose_codec(backend, desc, row, "v_sketch", desc.v_sketch, row.v_sketch_default, row.v_sketches);
    shape.dense = {sketch ? int32_t(KC_CODEC_F16) : k, v, 0, false};
    shape.selecting = {k, sketch, v, (bit(k) & kLow) != 0};

    const int32_t n_tokens = shape.n_sequence_pages * kPageTokens;
    shape.grows = row.selects && (desc.max_tail > 0 || desc.max_error > 0);
    shape.max_tail = desc.max_tail;
    shape.max_error = desc.max_error;
    shape.n_keep = std::min(desc.n_keep, n_tokens);
    shape.n_keep_max = shape.n_keep;
    if (shape.grows) shape.n_keep_max = desc.n_keep_max ? std::min(desc.n_keep_max, n_tokens) : n_tokens;
    const int64_t group = shape.n_q_heads / shape.n_kv_heads;
    const int64_t n_chosen = shape.select == KC_SELECT_UNION ? group * shape.n_keep : shape.n_keep;
    const int64_t n_kept = int64_t(shape.n_sink) + shape.n_recent + std::max<int64_t>(n_chosen, shape.n_keep_max);
    shape.n_kept = static_cast<int32_t>(std::min<int64_t>(n_kept, n_tokens));
    shape.mix_mode = sketch                               ? KC_MIX_SKETCHED
                     : desc.mode == KC_MODE_EXACT_WEIGHTS ? KC_MIX_EXACT_WEIGHTS
                                                          : KC_MIX_RENORMALIZED;
    shape.fast_budget_bytes = desc.fast_budget_bytes;
    return shape;
}

}  // namespace kc
