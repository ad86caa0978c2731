#include "cache/wave.h"

#include <algorithm>
#include <cmath>

namespace kc {
namespace {

// Tokens of a view that a query sees.
int64_t n_seen(const kc_wave& wave, const kc_query_view& query) {
    if (query.visible_from <= wave.n_sink) return query.n_visible;
    return std::min(wave.n_sink, query.n_visible) + std::max(0, query.n_visible - query.visible_from);
}

// Bytes of n_tokens rows of one head, the first page of a coded store in f16.
uint64_t rows_bytes(const Backend& backend, const kc_store& store, int32_t head_dim, int64_t n_tokens) {
    const int64_t n_first = store.first ? std::min<int64_t>(n_tokens, kPageTokens) : 0;
    const auto row = static_cast<int64_t>(backend.block_bytes(store.codec, head_dim)) / kPageTokens;
    return static_cast<uint64_t>(n_first * 2 * head_dim + (n_tokens - n_first) * row);
}

}  // namespace

void count_wave(const WaveCall& call, const WaveMemory& memory, kc_statistics& statistics) {
    const kc_wave& wave = call.wave;
    const CacheShape& shape = call.shape;
    const kc_layer_view& view = call.plan.view;
    const int64_t n_heads = int64_t(wave.n_queries) * shape.n_q_heads;
    for (int64_t h = 0; h < n_heads; ++h) statistics.n_nonfinite += static_cast<uint64_t>(memory.n_nonfinite[h]);
    const auto n_kv_heads = static_cast<uint64_t>(shape.n_kv_heads);
    for (int32_t w = 0; w < wave.n_queries; ++w) {
        const int64_t n_tokens = n_seen(wave, wave.queries[w]);
        statistics.read_bytes += n_kv_heads * rows_bytes(call.backend, view.k, view.head_dim, n_tokens);
        // Without exact rows every value is read; with a sketch the rows that are not exact.
        if (!call.plan.selects) {
            statistics.read_bytes += n_kv_heads * rows_bytes(call.backend, view.v, view.head_dim, n_tokens);
        }
    }
    if (!call.plan.selects) return;

    const int64_t n_sets = int64_t(wave.n_queries) * shape.n_kv_heads;
    const auto row_bytes = static_cast<uint64_t>(view.exact.row_bytes);
    for (int64_t s = 0; s < n_sets; ++s) {
        statistics.rows_selected += static_cast<uint64_t>(memory.n_selected[s]);
        statistics.rows_restored += static_cast<uint64_t>(memory.n_restored[s]);
        statistics.rows_hot += static_cast<uint64_t>(memory.n_hot[s]);
        statistics.restored_bytes += static_cast<uint64_t>(memory.n_restored[s]) * row_bytes;
        statistics.bound_missed += static_cast<uint64_t>(memory.missed[s]);
        statistics.read_bytes += static_cast<uint64_t>(memory.n_kept[s]) * row_bytes;
        if (!view.v.base) continue;
        const int64_t n_rest = n_seen(wave, wave.queries[s / shape.n_kv_heads]) - memory.n_kept[s];
        statistics.read_bytes +=
            static_cast<uint64_t>(n_rest) * (call.backend.block_bytes(view.v.codec, view.head_dim) / kPageTokens);
    }
    statistics.n_selections += static_cast<uint64_t>(n_sets);
    statistics.n_head_steps += static_cast<uint64_t>(n_heads);
    for (int64_t h = 0; h < n_heads; ++h) {
        const double tail = memory.tail[h];
        const double error = memory.error[h];
        if (std::isfinite(tail)) {
            statistics.tail_sum += tail;
            statistics.tail_max = std::max(statistics.tail_max, tail);
        }
        if (std::isfinite(error)) statistics.error_max = std::max(statistics.error_max, error);
    }
}

}  // namespace kc
