// Purpose:  encode and store new rows: K store, V store or sketch, exact rows in their fast slots.
// Shapes:   k, v [n_rows, n_kv_heads, head_dim]; blocks of 64 tokens, exact rows [kv_head, 64, row].
// Mapping:  piece = (page of a sequence that gets rows, KV head).
// Traffic:  n_rows * n_kv_heads * (8 * head_dim + bytes of the coded rows + bytes of the exact row).
// Numerics: rows are rounded to f16 first; coded rows are coded from that, so a prompt's cut does not show.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "cpu/context.h"
#include "cpu/kernels/half.h"
#include "cpu/kernels/layout.h"

namespace kc {
namespace {

// The pages of a view that get new rows are its last ones.
int32_t first_new_page(const kc_sequence_view& sequence) {
    int32_t page = sequence.n_pages;
    while (page > 0 && sequence.pages[page - 1].position + kPageTokens > sequence.n_past) --page;
    return page;
}

// A row of one head on its way into the stores.
struct Row {
    uint16_t half[kMaxHeadDim];
    float rotated[kMaxHeadDim];
    int8_t numbers[kMaxHeadDim];
};

struct Append {
    const kc_kv_append_params& params;
    const kc_layer_view& layer;
    const Kernels& kernels;

    bool is_coded() const { return layer.k.first != nullptr || layer.v.first != nullptr; }
    int64_t store_page(const kc_sequence_view& sequence, int32_t page, int32_t kv_head) const;
    void store_in(const kc_store& store, bool is_v, const kc_sequence_view& sequence, int32_t page, int32_t kv_head,
                  int token, Row& row) const;
    void store_exact(const kc_sequence_view& sequence, int32_t page, int32_t kv_head, int token, const Row& k,
                     Row& v) const;
    void set_centre(const kc_store& store, bool is_v, const kc_sequence_view& sequence, int32_t kv_head) const;
    void centre_row(const kc_store& store, const kc_sequence_view& sequence, int32_t kv_head, Row& row) const;
};

// The row rotated, less the centre. Both stores of V share one centre.
void Append::centre_row(const kc_store& store, const kc_sequence_view& sequence, int32_t kv_head, Row& row) const {
    const float* centre = centre_of(store, sequence, kv_head, layer.head_dim);
    kernels.codec.from_f16(row.half, layer.head_dim, row.rotated);
    kernels.codec.rotate(row.rotated, layer.head_dim);
    for (int32_t d = 0; d < layer.head_dim; ++d) row.rotated[d] -= centre[d];
}

void Append::store_in(const kc_store& store, bool is_v, const kc_sequence_view& sequence, int32_t page, int32_t kv_head,
                      int token, Row& row) const {
    if (store.base == nullptr && !in_first_store(store, sequence, page)) return;
    const int32_t head_dim = layer.head_dim;
    const Block block = block_of(store, sequence, page, kv_head, head_dim);
    if (block.codec != KC_CODEC_F16) {
        centre_row(store, sequence, kv_head, row);
        const uint16_t scale = quantize(block.codec, row.rotated, head_dim, row.numbers);
        store_row(block.codec, is_v, block.data, token, head_dim, row.numbers, scale);
        return;
    }
    uint16_t* halves = reinterpret_cast<uint16_t*>(block.data);
    if (is_v) {
        std::memcpy(halves + token * head_dim, row.half, sizeof(uint16_t) * static_cast<size_t>(head_dim));
    } else {
        for (int32_t d = 0; d < head_dim; ++d) halves[d * kPageTokens + token] = row.half[d];
    }
}

void Append::store_exact(const kc_sequence_view& sequence, int32_t page, int32_t kv_head, int token, const Row& k,
                         Row& v) const {
    const kc_exact_store& exact = layer.exact;
    if (exact.base == nullptr || in_first_store(layer.v, sequence, page)) return;
    uint8_t* row = exact_rows(exact, sequence.pages[page].exact, kv_head) + token * exact.row_bytes;
    const size_t half_bytes = sizeof(uint16_t) * static_cast<size_t>(layer.head_dim);
    if (exact.has_k) std::memcpy(row, k.half, half_bytes);
    row += value_offset_bytes(exact, layer.head_dim);
    if (exact.v_codec == KC_CODEC_Q8) {
        centre_row(layer.v, sequence, kv_head, v);
        exact_scales(exact, sequence, page, kv_head)[token] =
            quantize(KC_CODEC_Q8, v.rotated, layer.head_dim, v.numbers);
        std::memcpy(row, v.numbers, static_cast<size_t>(layer.head_dim));
    } else {
        std::memcpy(row, v.half, half_bytes);
    }
}

// Returns how many rows held a number that does not fit f16.
int64_t Append::store_page(const kc_sequence_view& sequence, int32_t page, int32_t kv_head) const {
    const int32_t position = sequence.pages[page].position;
    const int32_t first = std::max(sequence.n_past, position);
    const int32_t last = std::min(sequence.n_past + sequence.n_rows, position + kPageTokens);
    int64_t n_nonfinite = 0;
    Row k, v;
    for (int32_t at = first; at < last; ++at) {
        const int64_t row = sequence.first_row + (at - sequence.n_past);
        const int64_t offset = (row * layer.n_kv_heads + kv_head) * layer.head_dim;
        const int token = at - position;
        n_nonfinite += !kernels.codec.to_f16(params.k + offset, layer.head_dim, k.half);
        n_nonfinite += !kernels.codec.to_f16(params.v + offset, layer.head_dim, v.half);
        store_in(layer.k, false, sequence, page, kv_head, token, k);
        store_in(layer.v, true, sequence, page, kv_head, token, v);
        store_exact(sequence, page, kv_head, token, k, v);
    }
    return n_nonfinite;
}

// The mean of the first page's rows, rotated.
void Append::set_centre(const kc_store& store, bool is_v, const kc_sequence_view& sequence, int32_t kv_head) const {
    if (store.first == nullptr) return;
    const int32_t head_dim = layer.head_dim;
    const Block block = block_of(store, sequence, 0, kv_head, head_dim);
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(block.data);
    float* centre = centre_of(store, sequence, kv_head, head_dim);
    std::fill_n(centre, head_dim, 0.f);
    for (int t = 0; t < kPageTokens; ++t) {
        for (int32_t d = 0; d < head_dim; ++d) {
            centre[d] += from_half(halves[is_v ? t * head_dim + d : d * kPageTokens + t]);
        }
    }
    for (int32_t d = 0; d < head_dim; ++d) centre[d] /= kPageTokens;
    kernels.codec.rotate(centre, head_dim);
}

}  // namespace

void kv_append(CpuContext& context, const kc_kv_append_params& params) {
    const kc_layer_view& layer = *params.layer;
    const Append append{params, layer, *context.kernels};
    const int64_t n_heads = layer.n_kv_heads;
    std::atomic<int64_t> n_nonfinite{0};
    int64_t n_rows = 0, n_pages = 0;
    for (int32_t s = 0; s < params.n_sequences; ++s) {
        n_rows += params.sequences[s].n_rows;
        n_pages += params.sequences[s].n_pages - first_new_page(params.sequences[s]);
    }
    // A few rows are too little to wake another thread for.
    const auto grain = [&](int64_t n_items) { return n_rows < 8 ? n_items : 1; };
    const auto store_page = [&](const kc_sequence_view& sequence, int32_t page, int32_t kv_head) {
        const int64_t n = append.store_page(sequence, page, kv_head);
        if (n != 0) n_nonfinite.fetch_add(n, std::memory_order_relaxed);
    };
    // Coded rows need the centre, and that needs the first page.
    if (append.is_coded()) {
        context.pool.run(params.n_sequences * n_heads, grain(params.n_sequences * n_heads),
                         [&](int64_t begin, int64_t end, int) {
                             for (int64_t i = begin; i < end; ++i) {
                                 const kc_sequence_view& sequence = params.sequences[i / n_heads];
                                 const int32_t kv_head = static_cast<int32_t>(i % n_heads);
                                 if (sequence.n_past < kPageTokens) store_page(sequence, 0, kv_head);
                                 if (sequence.set_centre == 0) continue;
                                 append.set_centre(layer.k, false, sequence, kv_head);
                                 append.set_centre(layer.v, true, sequence, kv_head);
                             }
                         });
    }
    context.pool.run(n_pages * n_heads, grain(n_pages * n_heads), [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            int64_t at = i / n_heads;
            const kc_sequence_view* sequence = params.sequences;
            while (at >= sequence->n_pages - first_new_page(*sequence)) {
                at -= sequence->n_pages - first_new_page(*sequence);
                ++sequence;
            }
            const int32_t page = first_new_page(*sequence) + static_cast<int32_t>(at);
            if (append.is_coded() && sequence->pages[page].position == 0) continue;
            store_page(*sequence, page, static_cast<int32_t>(i % n_heads));
        }
    });
    *params.n_nonfinite += static_cast<uint64_t>(n_nonfinite.load());
}

void kv_decode(CpuContext& context, const kc_layer_view& layer, const kc_sequence_view& sequence, bool is_v,
               int32_t kv_head, int32_t first_token, int32_t n_tokens, float* out) {
    const int32_t head_dim = layer.head_dim;
    const kc_store& store = is_v ? layer.v : layer.k;
    const CodecBodies& codec = context.kernels->codec;
    for (int32_t at = first_token; at < first_token + n_tokens; ++at, out += head_dim) {
        const int32_t page = at / kPageTokens;
        const int token = at % kPageTokens;
        const Block block = block_of(store, sequence, page, kv_head, head_dim);
        if (block.codec == KC_CODEC_F16) {
            const uint16_t* halves = reinterpret_cast<const uint16_t*>(block.data);
            for (int32_t d = 0; d < head_dim; ++d) {
                out[d] = from_half(halves[is_v ? token * head_dim + d : d * kPageTokens + token]);
            }
            continue;
        }
        int8_t numbers[kMaxHeadDim];
        load_row(block.codec, is_v, block.data, token, head_dim, numbers);
        const float scale = from_half(block_scales(block.codec, block.data, head_dim)[token]);
        const float* centre = centre_of(store, sequence, kv_head, head_dim);
        for (int32_t d = 0; d < head_dim; ++d) out[d] = numbers[d] * scale + centre[d];
        codec.rotate_back(out, head_dim);
    }
}

}  // namespace kc
