#include "cache/layout.h"

#include <algorithm>

namespace kc {
namespace {

constexpr int64_t kDiskBlock = 4096;
// Hot rows: what a simulation on a small model found to hold four of five rows.
constexpr int32_t kHotFactor = 3;
constexpr int32_t kHotRowsWhereSetsGrow = 32;

template <class F>
uint64_t bytes_of(Arena& arena, F&& take) {
    const uint64_t before = arena.used();
    take();
    return arena.used() - before;
}

// A store of K or V: pages of every layer of the group, first pages and centres.
struct StorePools {
    int64_t layer_bytes = 0;
    int64_t first_layer_bytes = 0;
    int64_t centre_layer_floats = 0;
};

StorePools take_store(const Backend& backend, const CacheShape& shape, int32_t n_layers, int32_t codec, bool has_first,
                      Arena& arena, kc_store& store) {
    StorePools pools;
    if (codec) {
        store.codec = codec;
        store.page_stride_bytes = shape.n_kv_heads * static_cast<int64_t>(backend.block_bytes(codec, shape.head_dim));
        pools.layer_bytes = store.page_stride_bytes * shape.n_pool_pages;
        store.base = arena.take<uint8_t>(Arena::product(static_cast<uint64_t>(pools.layer_bytes), n_layers));
    }
    if (has_first) {
        store.first_stride_bytes =
            shape.n_kv_heads * static_cast<int64_t>(backend.block_bytes(KC_CODEC_F16, shape.head_dim));
        pools.first_layer_bytes = store.first_stride_bytes * shape.n_sequences;
        store.first = arena.take<uint8_t>(Arena::product(static_cast<uint64_t>(pools.first_layer_bytes), n_layers));
        store.centre_stride = int64_t(shape.n_kv_heads) * shape.head_dim;
        pools.centre_layer_floats = store.centre_stride * shape.n_sequences;
        store.centre = arena.take<float>(Arena::product(static_cast<uint64_t>(pools.centre_layer_floats), n_layers));
    }
    return pools;
}

int64_t exact_row_bytes(const CacheShape& shape) {
    const LayerCodecs& codecs = shape.selecting;
    return int64_t(shape.head_dim) * ((codecs.exact_k ? 2 : 0) + (codecs.exact_v == KC_CODEC_F16 ? 2 : 1));
}

void take_exact(const CacheShape& shape, Layout& layout, LayerGroup& group, Arena& arena) {
    kc_exact_store& exact = group.view.exact;
    exact.has_k = shape.selecting.exact_k ? 1 : 0;
    exact.v_codec = shape.selecting.exact_v;
    exact.row_bytes = exact_row_bytes(shape);
    group.exact_layer_bytes = shape.n_kv_heads * kPageTokens * exact.row_bytes;
    layout.slot_bytes = group.exact_layer_bytes * group.n_layers;
    layout.file_page_bytes = round_up(layout.slot_bytes, kDiskBlock);
    exact.slot_stride_bytes = layout.slot_bytes;
    exact.base = arena.take<uint8_t>(Arena::product(static_cast<uint64_t>(layout.slot_bytes), layout.n_slots));
    exact.spill_stride_bytes = layout.file_page_bytes;
    if (exact.v_codec == KC_CODEC_Q8) {
        exact.scale_stride = int64_t(shape.n_kv_heads) * kPageTokens;
        group.scale_layer_count = exact.scale_stride * shape.n_pool_pages;
        exact.scales =
            arena.take<uint16_t>(Arena::product(static_cast<uint64_t>(group.scale_layer_count), group.n_layers));
    }
}

void take_hot(const Backend& backend, const CacheShape& shape, LayerGroup& group, Arena& arena) {
    const int64_t n_rows = shape.grows ? std::max(shape.n_keep, kHotRowsWhereSetsGrow) : shape.n_keep;
    const int64_t n_shared = shape.select == KC_SELECT_UNION ? n_rows * (shape.n_q_heads / shape.n_kv_heads) : n_rows;
    kc_hot_store& hot = group.hot;
    hot.n_slots = static_cast<int32_t>(
        std::clamp<int64_t>(n_shared * kHotFactor, 1, int64_t(shape.n_sequence_pages) * kPageTokens));
    hot.hot_stride_bytes = shape.n_kv_heads * hot.n_slots * group.view.exact.row_bytes;
    hot.state_stride_bytes = shape.n_kv_heads * static_cast<int64_t>(backend.hot_state_bytes(hot.n_slots));
    group.hot_layer_bytes = hot.hot_stride_bytes * shape.n_sequences;
    group.hot_state_layer_bytes = hot.state_stride_bytes * shape.n_sequences;
    hot.rows = arena.take<uint8_t>(Arena::product(static_cast<uint64_t>(group.hot_layer_bytes), group.n_layers));
    hot.state = arena.take<uint8_t>(Arena::product(static_cast<uint64_t>(group.hot_state_layer_bytes), group.n_layers));
}

void take_bookkeeping(const CacheShape& shape, Layout& layout, Arena& arena) {
    layout.layers = arena.take<LayerPlan>(shape.n_layers);
    layout.sequences = arena.take<Sequence>(shape.n_sequences);
    layout.page_tables = arena.take<kc_page_view>(Arena::product(shape.n_sequences, shape.n_sequence_pages));
    layout.pages = arena.take<Page>(shape.n_pool_pages);
    layout.free_pages = arena.take<int32_t>(shape.n_pool_pages);
    layout.free_slots = arena.take<int32_t>(layout.n_slots);
    layout.slot_page = arena.take<int32_t>(layout.n_slots);
    layout.slot_pinned = arena.take<uint8_t>(layout.n_slots);
    layout.free_file_pages = arena.take<int32_t>(layout.n_file_pages);
    layout.first_references = arena.take<int32_t>(shape.n_sequences);
    layout.entries = arena.take<Entry>(shape.n_queries);
    layout.views = arena.take<kc_sequence_view>(shape.n_queries);
    layout.view_spilled = arena.take<int32_t>(shape.n_queries);
    layout.queries = arena.take<kc_query_view>(shape.n_batch_tokens);
    layout.wave_begin = arena.take<int32_t>(static_cast<uint64_t>(shape.n_batch_tokens) + 1);
    layout.pending = arena.take<kc_statistics>(shape.n_layers);
    layout.totals = arena.take<kc_statistics>(shape.n_layers);
}

// What the host reads of a layer: side by side, so that one copy brings all of it.
void take_counts(const CacheShape& shape, Arena& arena, WaveMemory& wave, uint64_t** n_odd_rows) {
    const uint64_t n_heads = uint64_t(shape.n_queries) * shape.n_q_heads;
    const uint64_t n_kv_heads = uint64_t(shape.n_queries) * shape.n_kv_heads;
    *n_odd_rows = arena.take<uint64_t>(1);
    wave.n_nonfinite = arena.take<int32_t>(n_heads);
    if (!shape.has_exact()) return;
    for (int32_t** counts : {&wave.n_kept, &wave.n_selected, &wave.missed, &wave.n_restored, &wave.n_hot}) {
        *counts = arena.take<int32_t>(n_kv_heads);
    }
    wave.tail = arena.take<float>(n_heads);
    wave.error = arena.take<float>(n_heads);
}

void take_wave(const Backend& backend, const CacheShape& shape, Layout& layout, Arena& arena, Arena& host) {
    const int64_t n_tokens = int64_t(shape.n_sequence_pages) * kPageTokens;
    const uint64_t n_queries = shape.n_queries;
    const uint64_t n_heads = n_queries * shape.n_q_heads;
    WaveMemory& wave = layout.wave;
    wave.weights = arena.take<float>(Arena::product(n_heads, n_tokens));
    wave.reference = arena.take<float>(n_heads);
    wave.mass = arena.take<float>(n_heads);
    take_counts(shape, arena, wave, &layout.n_odd_rows);
    layout.counts = layout.n_odd_rows;
    layout.seen_counts = layout.counts;
    layout.seen = wave;
    layout.seen_odd_rows = layout.n_odd_rows;
    layout.odd_rows_before = host.take<uint64_t>(backend.host_sees_fast ? 1 : shape.n_layers);
    if (!backend.host_sees_fast) {
        take_counts(shape, host, layout.seen, &layout.seen_odd_rows);
        layout.seen_counts = layout.seen_odd_rows;
        // Those of the other layers lie behind the first one's, at the same distance on both sides.
        Arena one;
        WaveMemory measured;
        uint64_t* measured_rows;
        take_counts(shape, one, measured, &measured_rows);
        layout.counts_stride_bytes = static_cast<uint64_t>(round_up(static_cast<int64_t>(one.used()), 64));
        const uint64_t others = layout.counts_stride_bytes * static_cast<uint64_t>(shape.n_layers - 1);
        for (Arena* side : {&arena, &host}) side->take<uint8_t>(others);
        layout.counts_bytes = others + one.used();
    }
    uint64_t scratch = 0;
    for (int32_t g = 0; g < layout.n_groups; ++g) {
        const kc_layer_view& view = layout.groups[g].view;
        scratch = std::max(scratch, backend.attention_full_scratch_bytes(backend.self, view, n_tokens));
        scratch = std::max(scratch, backend.attention_score_scratch_bytes(backend.self, view, n_queries, n_tokens));
        scratch = std::max(scratch, backend.attention_mix_scratch_bytes(backend.self, view, n_queries, n_tokens));
        if (view.exact.base) {
            scratch = std::max(scratch, backend.select_topn_scratch_bytes(backend.self, view, n_queries, n_tokens));
        }
    }
    layout.stem_scratch = arena.take<uint8_t>(scratch);
    if (!shape.has_exact()) return;

    const uint64_t n_kv_heads = n_queries * shape.n_kv_heads;
    const uint64_t n_kept = Arena::product(n_kv_heads, shape.n_kept);
    wave.kept = arena.take<int32_t>(n_kept);
    wave.rows = arena.take<const uint8_t*>(n_kept);
    const LayerGroup& selecting = layout.groups[layout.n_groups - 1];
    if (layout.may_spill && shape.n_kept > selecting.hot.n_slots) {
        wave.staging =
            arena.take<uint8_t>(Arena::product(n_kept, static_cast<uint64_t>(selecting.view.exact.row_bytes)));
    }
    // Heads are in flight one by one where rows are read from the file, else all in one.
    kc_layer_view one_head = selecting.view;
    one_head.n_q_heads /= one_head.n_kv_heads;
    one_head.n_kv_heads = 1;
    const uint64_t all = backend.row_restore_scratch_bytes(backend.self, selecting.view, n_queries, shape.n_kept);
    layout.restore_head_bytes = static_cast<uint64_t>(round_up(
        static_cast<int64_t>(backend.row_restore_scratch_bytes(backend.self, one_head, n_queries, shape.n_kept)), 64));
    const uint64_t by_heads =
        layout.may_spill ? Arena::product(layout.restore_head_bytes, static_cast<uint64_t>(shape.n_kv_heads)) : 0;
    layout.restore_scratch = arena.take<uint8_t>(std::max(all, by_heads));
    if (layout.may_spill) {
        layout.n_prompt_buffers = backend.host_sees_fast ? 1 : 2;
        for (int32_t i = 0; i < layout.n_prompt_buffers; ++i) {
            layout.prompt_rows[i] = arena.take<uint8_t>(Arena::product(
                static_cast<uint64_t>(kPageTokens * selecting.view.exact.row_bytes), shape.n_sequence_pages));
            layout.prompt_pages[i] = host.take<const uint8_t*>(shape.n_sequence_pages);
        }
        layout.moves = host.take<Backend::Move>(shape.n_sequence_pages);
    }
}

}  // namespace

int32_t most_slots(const CacheShape& shape) {
    if (!shape.has_exact()) return 0;
    if (!has_first_v(shape.selecting)) return shape.n_pool_pages;
    // First pages lie in a store of their own, and whoever has pages has a first one.
    const int64_t behind_first = int64_t(shape.n_sequences) * (shape.n_sequence_pages - 1);
    return static_cast<int32_t>(std::min<int64_t>(behind_first, shape.n_pool_pages - 1));
}

int32_t fewest_slots(const CacheShape& shape) {
    if (!shape.has_exact()) return 0;
    // Of every sequence the pages of its recent tokens and of its new ones; n adjacent tokens touch at most
    // (n + 62) / 64 + 1 pages.
    const int64_t n_tokens = int64_t(shape.n_sequences) * (shape.n_recent + 61) + shape.n_batch_tokens;
    int64_t n_slots = n_tokens / kPageTokens + shape.n_sequences;
    if (!has_first_v(shape.selecting)) n_slots += shape.n_sequences;  // sinks are never spilled
    return static_cast<int32_t>(std::min<int64_t>(n_slots, most_slots(shape)));
}

Layout lay_out(const Backend& backend, const CacheShape& shape, int32_t n_slots, Arena& arena, Arena& host) {
    Layout layout = {};
    layout.n_slots = n_slots;
    layout.may_spill = n_slots < most_slots(shape);
    // A page that comes back from the file makes room for itself first.
    layout.n_file_pages = layout.may_spill ? most_slots(shape) - n_slots + 1 : 0;
    layout.memory.size = sizeof layout.memory;
    kc_memory& memory = layout.memory;

    for (int32_t begin = 0; begin < shape.n_layers;) {
        LayerGroup& group = layout.groups[layout.n_groups++];
        group.first_layer = begin;
        group.n_layers = shape.is_dense(begin) ? shape.n_dense_layers : shape.n_layers - begin;
        begin += group.n_layers;
        const LayerCodecs& codecs = shape.codecs(group.first_layer);
        kc_layer_view& view = group.view;
        view.n_q_heads = shape.n_q_heads;
        view.n_kv_heads = shape.n_kv_heads;
        view.head_dim = shape.head_dim;
        view.scale = shape.scale;
        memory.keys_bytes += bytes_of(arena, [&] {
            const StorePools k =
                take_store(backend, shape, group.n_layers, codecs.k, has_first_k(codecs), arena, view.k);
            group.k_layer_bytes = k.layer_bytes;
            group.k_first_layer_bytes = k.first_layer_bytes;
            group.centre_layer_floats = k.centre_layer_floats;
        });
        memory.values_bytes += bytes_of(arena, [&] {
            const StorePools v =
                take_store(backend, shape, group.n_layers, codecs.v, has_first_v(codecs), arena, view.v);
            group.v_layer_bytes = v.layer_bytes;
            group.v_first_layer_bytes = v.first_layer_bytes;
            group.centre_layer_floats = std::max(group.centre_layer_floats, v.centre_layer_floats);
        });
        if (!codecs.exact_v) continue;
        memory.exact_bytes += bytes_of(arena, [&] { take_exact(shape, layout, group, arena); });
        if (layout.may_spill) memory.hot_bytes += bytes_of(arena, [&] { take_hot(backend, shape, group, arena); });
    }
    memory.scratch_bytes = bytes_of(arena, [&] {
        take_bookkeeping(shape, layout, host);
        take_wave(backend, shape, layout, arena, host);
    });
    memory.fast_bytes = arena.used();
    memory.n_fast_exact_pages = static_cast<uint32_t>(n_slots);
    memory.slow_bytes =
        Arena::product(static_cast<uint64_t>(layout.n_file_pages), static_cast<uint64_t>(layout.file_page_bytes));
    return layout;
}

int32_t plan_slots(const Backend& backend, const CacheShape& shape, kc_memory* plan) {
    const auto measure = [&](int32_t n_slots) {
        Arena arena, host;
        return lay_out(backend, shape, n_slots, arena, backend.host_sees_fast ? arena : host).memory;
    };
    const int32_t most = most_slots(shape);
    const int32_t fewest = fewest_slots(shape);
    const kc_memory all = measure(most);
    const kc_memory least = measure(fewest);
    const uint64_t minimum = std::min(all.fast_bytes, least.fast_bytes);
    const uint64_t budget = shape.fast_budget_bytes;
    int32_t n_slots = most;
    *plan = all;
    if (budget != 0 && budget < all.fast_bytes) {
        if (budget < minimum) {
            fail(KC_ERR_BUDGET,
                 "desc->fast_budget_bytes is %llu, but policy %s needs at least %llu for %d sequences of %d tokens; "
                 "raise it, "
                 "or lower n_context, n_sequences or n_batch_tokens",
                 static_cast<unsigned long long>(budget), shape.row->name, static_cast<unsigned long long>(minimum),
                 shape.n_sequences, shape.n_context);
        }
        // Memory grows with the slots: the largest number that fits.
        int32_t low = fewest, high = most - 1;
        while (low < high) {
            const int32_t middle = low + (high - low + 1) / 2;
            if (measure(middle).fast_bytes <= budget) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        n_slots = low;
        *plan = measure(n_slots);
    }
    plan->fast_minimum_bytes = minimum;
    return n_slots;
}

WaveMemory of_layer(const Layout& layout, const WaveMemory& wave, int32_t layer) {
    WaveMemory own = wave;
    for (int32_t** counts :
         {&own.n_nonfinite, &own.n_kept, &own.n_selected, &own.missed, &own.n_restored, &own.n_hot}) {
        if (*counts) *counts = of_layer(layout, *counts, layer);
    }
    for (float** counts : {&own.tail, &own.error}) {
        if (*counts) *counts = of_layer(layout, *counts, layer);
    }
    return own;
}

kc_layer_view layer_view(const Layout& layout, int32_t layer) {
    const LayerGroup& group = layout.groups[layout.n_groups == 2 && layer >= layout.groups[1].first_layer ? 1 : 0];
    const int64_t i = layer - group.first_layer;
    kc_layer_view view = group.view;
    view.k.base += i * group.k_layer_bytes;
    if (view.k.first) {
        view.k.first += i * group.k_first_layer_bytes;
        view.k.centre += i * group.centre_layer_floats;
    }
    if (view.v.base) view.v.base += i * group.v_layer_bytes;
    if (view.v.first) {
        view.v.first += i * group.v_first_layer_bytes;
        view.v.centre += i * group.centre_layer_floats;
    }
    if (view.exact.base) {
        view.exact.base += i * group.exact_layer_bytes;
        view.exact.spill_offset_bytes = i * group.exact_layer_bytes;
    }
    if (view.exact.scales) view.exact.scales += i * group.scale_layer_count;
    return view;
}

kc_hot_store hot_store(const Layout& layout, int32_t layer) {
    const LayerGroup& group = layout.groups[layout.n_groups - 1];
    kc_hot_store hot = group.hot;
    if (!hot.rows) return hot;
    const int64_t i = layer - group.first_layer;
    hot.rows += i * group.hot_layer_bytes;
    hot.state += i * group.hot_state_layer_bytes;
    return hot;
}

}  // namespace kc
