// Where a block or a row of the cache lies, which tokens a row of q sees, and in which pieces sums over tokens run.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "cpu/kernels/attention_score.h"
#include "cpu/kernels/stems.h"

namespace kc {

constexpr int kMaxHeadDim = 256;
// Query heads of one KV head that a kernel treats at a time.
constexpr int kMaxGroup = 16;

constexpr int kSpanTokens = kSpanPages * kPageTokens;

struct Block {
    uint8_t* data;
    int32_t codec;
};

// The first page of a sequence lies in f16 in a store of its own where the store is coded.
inline bool in_first_store(const kc_store& store, const kc_sequence_view& sequence, int32_t page) {
    return store.first != nullptr && sequence.first_page >= 0 && sequence.pages[page].position == 0;
}

inline Block block_of(const kc_store& store, const kc_sequence_view& sequence, int32_t page, int32_t kv_head,
                      int32_t head_dim) {
    if (in_first_store(store, sequence, page)) {
        const int64_t bytes = static_cast<int64_t>(block_bytes(KC_CODEC_F16, head_dim));
        return {store.first + sequence.first_page * store.first_stride_bytes + kv_head * bytes, KC_CODEC_F16};
    }
    const int64_t bytes = static_cast<int64_t>(block_bytes(store.codec, head_dim));
    return {store.base + sequence.pages[page].page * store.page_stride_bytes + kv_head * bytes, store.codec};
}

// Coded blocks that are asked for before their turn: one is worked on in less time than memory takes.
constexpr int32_t kBlocksAhead = 4;
inline void prefetch_block(const Block& block, int32_t head_dim) {
    const auto bytes = static_cast<int64_t>(block_bytes(block.codec, head_dim));
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(block.data + at);
}

// Asks for an exact row.
inline void prefetch_row(const uint8_t* row, int64_t n_bytes) {
    for (int64_t at = 0; at < n_bytes; at += 64) __builtin_prefetch(row + at);
}

// The centre of a coded store, [head_dim], rotated.
inline float* centre_of(const kc_store& store, const kc_sequence_view& sequence, int32_t kv_head, int32_t head_dim) {
    return store.centre + sequence.first_page * store.centre_stride + static_cast<int64_t>(kv_head) * head_dim;
}

// Rows [64, row_bytes] of a page that has a fast slot.
inline uint8_t* exact_rows(const kc_exact_store& exact, int32_t slot, int32_t kv_head) {
    return exact.base + slot * exact.slot_stride_bytes + kv_head * kPageTokens * exact.row_bytes;
}

// Where the value begins in an exact row.
inline int64_t value_offset_bytes(const kc_exact_store& exact, int32_t head_dim) {
    return exact.has_k ? 2 * static_cast<int64_t>(head_dim) : 0;
}

// f16 scales [64] of q8 exact values.
inline uint16_t* exact_scales(const kc_exact_store& exact, const kc_sequence_view& sequence, int32_t page,
                              int32_t kv_head) {
    return exact.scales + sequence.pages[page].page * exact.scale_stride + kv_head * kPageTokens;
}

// Bits [0, n), n held between 0 and 64.
inline uint64_t low_bits(int64_t n) { return n <= 0 ? 0 : n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1; }

// Which tokens of a page at `position` are seen: those below n_visible that are below n_sink or at least visible_from.
inline uint64_t visible_tokens(int64_t position, int64_t n_visible, int64_t n_sink, int64_t visible_from) {
    return low_bits(n_visible - position) & (low_bits(n_sink - position) | ~low_bits(visible_from - position));
}

// Of the scores of a page, those of the tokens without a bit in `seen`.
inline void hide_unseen(float* scores, uint64_t seen) {
    for (uint64_t left = ~seen; left != 0; left &= left - 1) scores[__builtin_ctzll(left)] = kUnseen;
}

// Weights are exp(score - reference): one pass over the keys makes them, so the reference is known before it, the
// largest score of the first and the last page that a query sees. Only where the largest of all lies so far above it
// that sums of squares might overflow, that one is taken instead.
inline float reference_score(float at_ends, float max) {
    constexpr float kFarAbove = 30.f;
    return max == at_ends || max - at_ends <= kFarAbove ? at_ends : max;
}
// Where nothing is seen every weight is 0, whatever the reference.
inline float reference_or_zero(float reference) { return reference == kUnseen ? 0.f : reference; }

}  // namespace kc
