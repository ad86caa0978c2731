// Purpose:  encode and store new rows: K store, V store or sketch, exact rows in their fast slots.
// Shapes:   k, v [n_rows, n_kv_heads, head_dim]; blocks of 64 tokens, exact rows [kv_head, 64, row].
// Mapping:  piece = (page of a sequence that gets rows, KV head).
// Traffic:  n_rows * n_kv_heads * (8 * head_dim + bytes of the coded rows + bytes of the exact row).
// Numerics: rows are rounded to f16 first; coded rows are coded from that, so a prompt's cut does not show.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "cpu/context.h"
#include "cpu/kernels/layout.h"

namespace kc {
namespace {

struct Append {
    const kc_kv_append_params& params;
    const kc_layer_view& layer;
    const Kernels& kernels;

    int64_t store_page(const kc_sequence_view& sequence, int32_t page, int32_t kv_head) const;
    void store_exact(const kc_sequence_view& sequence, int32_t page, int32_t kv_head, int token, const uint16_t* k,
                     const uint16_t* v) const;
};

// Keys of a block lie by dimension: tokens are adjacent.
void store_key_f16(uint8_t* block, int token, const uint16_t* row, int32_t head_dim) {
    uint16_t* column = reinterpret_cast<uint16_t*>(block) + token;
    for (int32_t d = 0; d < head_dim; ++d) column[d * kPageTokens] = row[d];
}

void Append::store_exact(const kc_sequence_view& sequence, int32_t page, int32_t kv_head, int token, const uint16_t* k,
                         const uint16_t* v) const {
    const kc_exact_store& exact = layer.exact;
    if (exact.base == nullptr || in_first_store(layer.v, sequence, page)) return;
    uint8_t* row = exact_rows(exact, sequence.pages[page].exact, kv_head) + token * exact.row_bytes;
    const size_t row_bytes = sizeof(uint16_t) * static_cast<size_t>(layer.head_dim);
    if (exact.has_k) std::memcpy(row, k, row_bytes);
    std::memcpy(row + value_offset_bytes(exact, layer.head_dim), v, row_bytes);
}

// Returns how many rows held a number that does not fit f16.
int64_t Append::store_page(const kc_sequence_view& sequence, int32_t page, int32_t kv_head) const {
    const int32_t head_dim = layer.head_dim;
    const int32_t position = sequence.pages[page].position;
    const int32_t first = std::max(sequence.n_past, position);
    const int32_t last = std::min(sequence.n_past + sequence.n_rows, position + kPageTokens);
    int64_t n_nonfinite = 0;
    for (int32_t at = first; at < last; ++at) {
        const int64_t row = sequence.first_row + (at - sequence.n_past);
        const int64_t offset = (row * layer.n_kv_heads + kv_head) * head_dim;
        const int token = at - position;
        uint16_t k[kMaxHeadDim], v[kMaxHeadDim];
        n_nonfinite += !kernels.codec.to_f16(params.k + offset, head_dim, k);
        n_nonfinite += !kernels.codec.to_f16(params.v + offset, head_dim, v);
        store_key_f16(block_of(layer.k, sequence, page, kv_head, head_dim).data, token, k, head_dim);
        if (layer.v.base != nullptr || in_first_store(layer.v, sequence, page)) {
            uint16_t* block = reinterpret_cast<uint16_t*>(block_of(layer.v, sequence, page, kv_head, head_dim).data);
            std::memcpy(block + token * head_dim, v, sizeof(uint16_t) * static_cast<size_t>(head_dim));
        }
        store_exact(sequence, page, kv_head, token, k, v);
    }
    return n_nonfinite;
}

// The pages of a view that get new rows are its last ones.
int32_t first_new_page(const kc_sequence_view& sequence) {
    int32_t page = sequence.n_pages;
    while (page > 0 && sequence.pages[page - 1].position + kPageTokens > sequence.n_past) --page;
    return page;
}

}  // namespace

void kv_append(CpuContext& context, const kc_kv_append_params& params) {
    const kc_layer_view& layer = *params.layer;
    const Append append{params, layer, *context.kernels};
    std::atomic<int64_t> n_nonfinite{0};
    for (int32_t s = 0; s < params.n_sequences; ++s) {
        const kc_sequence_view& sequence = params.sequences[s];
        const int32_t first = first_new_page(sequence);
        const int64_t n_heads = layer.n_kv_heads;
        // One row is too little to wake another thread for.
        const int64_t grain = sequence.n_rows < 8 ? (sequence.n_pages - first) * n_heads : 1;
        context.pool.run((sequence.n_pages - first) * n_heads, grain, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) {
                const int64_t bad = append.store_page(sequence, static_cast<int32_t>(first + i / n_heads),
                                                      static_cast<int32_t>(i % n_heads));
                if (bad != 0) n_nonfinite.fetch_add(bad, std::memory_order_relaxed);
            }
        });
    }
    *params.n_nonfinite += static_cast<uint64_t>(n_nonfinite.load());
}

void kv_decode(CpuContext& context, const kc_layer_view& layer, const kc_sequence_view& sequence, bool is_v,
               int32_t kv_head, int32_t first_token, int32_t n_tokens, float* out) {
    const int32_t head_dim = layer.head_dim;
    for (int32_t at = first_token; at < first_token + n_tokens; ++at, out += head_dim) {
        const int32_t page = at / kPageTokens, token = at % kPageTokens;
        const Block block = block_of(is_v ? layer.v : layer.k, sequence, page, kv_head, head_dim);
        const uint16_t* halves = reinterpret_cast<const uint16_t*>(block.data);
        uint16_t row[kMaxHeadDim];
        for (int32_t d = 0; d < head_dim; ++d) {
            row[d] = is_v ? halves[token * head_dim + d] : halves[d * kPageTokens + token];
        }
        context.kernels->codec.from_f16(row, head_dim, out);
    }
}

}  // namespace kc
