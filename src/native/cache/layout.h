// Where everything of a cache lies in its one block of fast memory. The same function measures for the plan and carves
// when the cache is created. What only the host uses (bookkeeping, the frame) lies in that block too where the host
// sees it, else in a block of the host's own.
#pragma once

#include "cache/plan.h"
#include "core/arena.h"

namespace kc {

// Layers that keep rows alike: their views differ by a stride.
struct LayerGroup {
    int32_t first_layer;
    int32_t n_layers;
    kc_layer_view view;  // of the first of them
    int64_t k_layer_bytes;
    int64_t k_first_layer_bytes;
    int64_t v_layer_bytes;
    int64_t v_first_layer_bytes;
    int64_t centre_layer_floats;
    int64_t exact_layer_bytes;  // within a slot, and within a page of the spill file
    int64_t scale_layer_count;
    kc_hot_store hot;  // of the first of them; rows NULL: nothing can be spilled
    int64_t hot_layer_bytes;
    int64_t hot_state_layer_bytes;
};

struct Page {
    int32_t n_references;
    int32_t exact;   // fast slot; ~p: page p of the spill file; kNoExact
    uint64_t birth;  // older pages have a smaller one
};
constexpr int32_t kNoExact = INT32_MIN;

struct Sequence {
    bool is_open;
    bool in_batch;
    int32_t n_tokens;  // committed
    int32_t n_pages;
    int32_t first_slot;  // in the first-page stores; -1: none yet
    kc_page_view* pages;
};

// An entry of the forward under way, and what rollback needs.
struct Entry {
    int32_t sequence;
    int32_t n_tokens;
    int32_t kind;
    int32_t n_pages_before;
    int32_t copied_page;  // the shared page that the last page is a copy of; -1: none
    int32_t copied_slot;  // the shared first-page slot that was left; -1: none
};

// What one wave of decode steps leaves behind; sizes as kcache_ops.h says.
struct WaveMemory {
    float* weights;
    float* reference;
    float* mass;
    int32_t* n_nonfinite;
    int32_t* kept;
    int32_t* n_kept;
    int32_t* n_selected;
    int32_t* missed;
    float* tail;
    float* error;
    const uint8_t** rows;
    int32_t* n_restored;
    int32_t* n_hot;
    uint8_t* staging;  // NULL: every kept set fits the hot store
};

struct Layout {
    int32_t n_groups;
    LayerGroup groups[2];

    // Bookkeeping.
    LayerPlan* layers;
    Sequence* sequences;
    kc_page_view* page_tables;  // [n_sequences, n_sequence_pages]
    Page* pages;
    int32_t* free_pages;
    int32_t n_slots;  // of exact rows in fast memory
    int32_t* free_slots;
    int32_t* slot_page;
    uint8_t* slot_pinned;
    int32_t n_file_pages;  // most that the spill file will hold
    int32_t* free_file_pages;
    int32_t* first_references;

    // The frame.
    Entry* entries;
    kc_sequence_view* views;  // prompts first
    int32_t* view_spilled;    // pages of each view in the spill file
    kc_query_view* queries;   // wave by wave
    int32_t* wave_begin;      // [n_batch_tokens + 1]

    // Work.
    WaveMemory wave;
    WaveMemory seen;       // the counts of `wave` as the host sees them; the rest is NULL
    uint64_t* n_odd_rows;  // grows by the rows of k and v that were not finite
    uint64_t* seen_odd_rows;
    uint64_t* odd_rows_before;  // what it showed before: of all layers, or by layer
    void* counts;               // all that `seen` shows, in fast memory
    void* seen_counts;          // the host's copy; the same address where the host sees fast memory
    // From one layer's counts to the next's. 0: all share the same, which are read before the next layer writes them.
    // Where the host does not see them, it reads those of all layers at once, when a forward ends.
    uint64_t counts_stride_bytes;
    uint64_t counts_bytes;  // of all layers, where the host does not see them
    void* stem_scratch;     // of the stem that runs
    uint8_t* restore_scratch;
    uint64_t restore_head_bytes;  // of one KV head in flight
    // Exact rows of one layer, KV head and sequence, page by page; none: nothing can be spilled; one: reading is not
    // worth running ahead, as the host itself copies.
    int32_t n_prompt_buffers;
    uint8_t* prompt_rows[2];
    const uint8_t** prompt_pages[2];
    Backend::Move* moves;
    kc_statistics* pending;
    kc_statistics* totals;

    // Sizes.
    int64_t slot_bytes;       // of a page's exact rows over all layers, in fast memory
    int64_t file_page_bytes;  // the same in the spill file, in whole blocks of the disk
    bool may_spill;
    kc_memory memory;
};

// How many slots of exact rows a cache can use at most, and how few it can live with.
int32_t most_slots(const CacheShape& shape);
int32_t fewest_slots(const CacheShape& shape);

// `host` is `arena` itself where the host sees fast memory.
Layout lay_out(const Backend& backend, const CacheShape& shape, int32_t n_slots, Arena& arena, Arena& host);

// Decides the number of slots within the budget and fills in the plan. Throws an Error (BUDGET) naming the smallest.
int32_t plan_slots(const Backend& backend, const CacheShape& shape, kc_memory* plan);

// What is counted of one layer, in `wave` or `seen`: an address of the first layer's, as a layer has it.
template <class T>
T* of_layer(const Layout& layout, T* counts, int32_t layer) {
    return reinterpret_cast<T*>(reinterpret_cast<uint8_t*>(counts) +
                                static_cast<uint64_t>(layer) * layout.counts_stride_bytes);
}
WaveMemory of_layer(const Layout& layout, const WaveMemory& wave, int32_t layer);

// The view and the hot store of one layer.
kc_layer_view layer_view(const Layout& layout, int32_t layer);
kc_hot_store hot_store(const Layout& layout, int32_t layer);

}  // namespace kc
