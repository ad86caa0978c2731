// Where a block or a row of the cache lies, which tokens a row of q sees, and in which pieces sums over tokens run.
//
// On this backend keys lie as values do, in rows [64, head_dim]: lanes of a warp then read whole rows, 16 bytes each.
#pragma once

#include <cuda_runtime.h>

#include "core/params.h"

namespace kc::cuda {

// Sums over tokens: pages of 64 in ascending order into the sum of a span, spans in ascending order into the total,
// whatever the grid.
constexpr int kSpanPages = 16;
constexpr int kSpanTokens = kSpanPages * kPageTokens;

// What a launch carries of a frame: copies in device memory, whose page tables are device addresses too.
struct Frame {
    const kc_sequence_view* sequences;
    const kc_query_view* queries;
};

__host__ __device__ constexpr int codec_bits(int codec) {
    return codec == KC_CODEC_F16  ? 16
           : codec == KC_CODEC_Q8 ? 8
           : codec == KC_CODEC_Q4 ? 4
           : codec == KC_CODEC_Q3 ? 3
                                  : 2;
}
__host__ __device__ inline int64_t codec_block_bytes(int codec, int head_dim) {
    return static_cast<int64_t>(kPageTokens) * codec_bits(codec) * head_dim / 8 +
           (codec == KC_CODEC_F16 ? 0 : 2 * kPageTokens);
}

// The first page of a sequence lies in f16 in a store of its own where the store is coded.
__device__ __forceinline__ bool in_first_store(const kc_store& store, const kc_sequence_view& sequence, int page) {
    return store.first != nullptr && sequence.first_page >= 0 && sequence.pages[page].position == 0;
}
__device__ __forceinline__ uint8_t* first_block(const kc_store& store, const kc_sequence_view& sequence, int kv_head,
                                                int head_dim) {
    return store.first + sequence.first_page * store.first_stride_bytes +
           kv_head * (int64_t{2} * kPageTokens * head_dim);
}
__device__ __forceinline__ uint8_t* store_block(const kc_store& store, const kc_sequence_view& sequence, int page,
                                                int kv_head, int head_dim) {
    return store.base + sequence.pages[page].page * store.page_stride_bytes +
           kv_head * codec_block_bytes(store.codec, head_dim);
}
// The block of a page whose rows are f16.
__device__ __forceinline__ uint8_t* f16_block(const kc_store& store, const kc_sequence_view& sequence, int page,
                                              int kv_head, int head_dim) {
    return in_first_store(store, sequence, page) ? first_block(store, sequence, kv_head, head_dim)
                                                 : store_block(store, sequence, page, kv_head, head_dim);
}
// The centre of a coded store, [head_dim], rotated.
__device__ __forceinline__ float* centre_of(const kc_store& store, const kc_sequence_view& sequence, int kv_head,
                                            int head_dim) {
    return store.centre + sequence.first_page * store.centre_stride + static_cast<int64_t>(kv_head) * head_dim;
}
// f16 scales [64] of q8 exact values.
__device__ __forceinline__ uint16_t* exact_scales(const kc_exact_store& exact, const kc_sequence_view& sequence,
                                                  int page, int kv_head) {
    return exact.scales + sequence.pages[page].page * exact.scale_stride + kv_head * kPageTokens;
}
// Rows [64, row_bytes] of a page that has a fast slot.
__device__ __forceinline__ uint8_t* exact_rows(const kc_exact_store& exact, int slot, int kv_head) {
    return exact.base + slot * exact.slot_stride_bytes + kv_head * kPageTokens * exact.row_bytes;
}
__host__ __device__ inline int64_t value_offset_bytes(const kc_exact_store& exact, int head_dim) {
    return exact.has_k ? 2 * static_cast<int64_t>(head_dim) : 0;
}

// Does a query see the token at `position`?
__device__ __forceinline__ bool sees(const kc_query_view& query, int n_sink, int64_t position) {
    return position < query.n_visible && (position < n_sink || position >= query.visible_from);
}

}  // namespace kc::cuda
