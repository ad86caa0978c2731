// What is cached how: a policy is a row of a table, a cache's shape is the row with a description's choices filled in.
#pragma once

#include "core/backend.h"

namespace kc {

struct PolicyRow {
    const char* name;
    uint32_t k_codecs;    // offered, a bit per KC_CODEC_*
    uint32_t v_codecs;    // of values that are read exactly
    uint32_t v_sketches;  // of the copy of values beside exact rows
    int32_t k_default;
    int32_t v_default;
    int32_t v_sketch_default;
    bool selects;  // decode steps choose rows that count exactly
    bool forgets;  // only sinks and recent tokens are kept
};

// How the rows of a layer are kept; codec 0: not at all.
struct LayerCodecs {
    int32_t k;
    int32_t v;
    int32_t exact_v;
    bool exact_k;
};

// A checked description: every default decided, every derived number computed once.
struct CacheShape {
    const PolicyRow* row;
    int32_t n_layers;
    int32_t n_dense_layers;  // n_layers where nothing is selected
    int32_t n_q_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    float scale;
    int32_t n_context;
    int32_t n_sequences;
    int32_t n_batch_tokens;
    int32_t n_pool_pages;
    int32_t n_sequence_pages;  // most pages that a sequence holds at once
    int32_t n_forget_pages;    // `window` forgets so many pages at a time
    int32_t n_queries;         // most decode steps side by side
    int32_t select;
    int32_t mix_mode;  // KC_MIX_*
    int32_t n_keep;
    int32_t n_keep_max;
    int32_t n_kept;  // most rows of a kept set
    int32_t n_sink;
    int32_t n_recent;
    float max_tail;
    float max_error;
    bool grows;  // max_tail or max_error may add rows
    LayerCodecs dense;
    LayerCodecs selecting;
    uint64_t fast_budget_bytes;

    bool has_exact() const { return n_dense_layers < n_layers; }
    bool is_dense(int32_t layer) const { return layer < n_dense_layers; }
    const LayerCodecs& codecs(int32_t layer) const { return is_dense(layer) ? dense : selecting; }
};

inline bool is_coded(int32_t codec) { return codec > KC_CODEC_F16; }

// The first page of coded rows lies in f16 in a store of its own; so does that of exact values in q8.
inline bool has_first_k(const LayerCodecs& codecs) { return is_coded(codecs.k); }
inline bool has_first_v(const LayerCodecs& codecs) { return is_coded(codecs.v) || is_coded(codecs.exact_v); }

// Throws an Error (ARGUMENT, UNSUPPORTED) that names what is wrong with the description.
CacheShape resolve(const Backend& backend, const kc_cache_desc& desc);

}  // namespace kc
