#include "cpu/kernels/mix_sums.h"

#include <algorithm>
#include <bit>

#include "cpu/kernels/half.h"

namespace kc {
// As all sums over weights run.
PageSums Mix::sums_of(int64_t query, int64_t head, int64_t n_heads, int32_t page, uint64_t tokens) const {
    PageSums sums;
    for (int64_t h = 0; h < n_heads; ++h) {
        const float* weights = weights_of(query, head + h) + static_cast<int64_t>(page) * kPageTokens;
        kernels.attention_score.sums(weights, tokens, &sums.weights[h], &sums.squares[h]);
    }
    return sums;
}

// Adds 8-bit rows, rotated, with f16 scales [64] of the page.
void Mix::add_q8(int64_t query, int64_t head, int64_t n_heads, int64_t span, const uint16_t* scales,
                 PackedRows& packed) const {
    for (int64_t j = 0; j < packed.n; ++j) {
        const float scale = from_half(scales[packed.token[j]]);
        for (int64_t h = 0; h < n_heads; ++h) packed.weight[h][j] *= scale;
    }
    kernels.attention_mix.rows_q8(packed.row, packed.n, packed.weight[0], kPageTokens, n_heads, layer.head_dim, 0,
                                  rotated_of(query, head, span), head_stride());
}

// Adds some rows of a block of f16 or q8; what lies ahead_bytes behind them is wanted next.
void Mix::add_rows(int64_t query, int64_t head, int64_t n_heads, int64_t span, const Block& block, int64_t ahead_bytes,
                   const float* weights, uint64_t tokens, PackedRows& packed) const {
    const int64_t row_bytes = (block.codec == KC_CODEC_F16 ? 2 : 1) * static_cast<int64_t>(layer.head_dim);
    packed.n = 0;
    for (uint64_t left = tokens; left != 0; left &= left - 1) {
        const int t = std::countr_zero(left);
        packed.row[packed.n] = block.data + t * row_bytes;
        packed.token[packed.n++] = t;
    }
    if (block.codec == KC_CODEC_F16 && packed.n == kPageTokens) {
        kernels.attention_mix.rows_f16(packed.row, packed.n, weights, wave.token_stride, n_heads, layer.head_dim,
                                       ahead_bytes, plain_of(query, head, span), head_stride());
        return;
    }
    for (int64_t h = 0; h < n_heads; ++h) {
        for (int64_t j = 0; j < packed.n; ++j) packed.weight[h][j] = weights[h * wave.token_stride + packed.token[j]];
    }
    if (block.codec == KC_CODEC_F16) {
        kernels.attention_mix.rows_f16(packed.row, packed.n, packed.weight[0], kPageTokens, n_heads, layer.head_dim, 0,
                                       plain_of(query, head, span), head_stride());
        return;
    }
    add_q8(query, head, n_heads, span, block_scales(block.codec, block.data, layer.head_dim), packed);
}

// Adds some tokens of a page from the V store; returns the sums of their weights.
PageSums Mix::add_stored(int64_t query, int64_t head, int64_t n_heads, int64_t span, int32_t page, uint64_t tokens,
                         PackedRows& packed) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const int32_t kv_head = static_cast<int32_t>(head / group);
    const Block block = block_of(layer.v, sequence, page, kv_head, layer.head_dim);
    const float* weights = weights_of(query, head) + static_cast<int64_t>(page) * kPageTokens;
    if (block.codec == KC_CODEC_F16) {
        const Block next = next_block_of(layer.v, sequence, page, kv_head, layer.head_dim);
        add_rows(query, head, n_heads, span, block, next.data - block.data, weights, tokens, packed);
        return params.mode == KC_MIX_SKETCHED ? sums_of(query, head, n_heads, page, tokens) : PageSums{};
    }
    prefetch_ahead(layer.v, sequence, page, kv_head, layer.head_dim);
    PageSums sums;
    if (block.codec == KC_CODEC_Q8) {
        sums = sums_of(query, head, n_heads, page, tokens);
        add_rows(query, head, n_heads, span, block, 0, weights, tokens, packed);
    } else {
        kernels.attention_mix.levels(block.codec, block.data, block_scales(block.codec, block.data, layer.head_dim),
                                     tokens, weights, wave.token_stride, n_heads, layer.head_dim,
                                     rotated_of(query, head, span), head_stride(), sums.weights, sums.squares);
    }
    for (int64_t h = 0; h < n_heads; ++h) span_of(query, head + h, span).rotated_mass += sums.weights[h];
    return sums;
}

// Adds the kept tokens of a page, kept[begin, end) of the list, from their exact rows; returns which they are.
uint64_t Mix::add_exact(int64_t query, int64_t head, int64_t n_heads, int64_t span, int32_t page, int64_t begin,
                        int64_t end, PackedRows& packed) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const int64_t list = (query * layer.n_kv_heads + head / group) * params.kept_stride;
    const int64_t first_token = static_cast<int64_t>(page) * kPageTokens;
    const bool first = in_first_store(layer.v, sequence, page);
    const int64_t offset = first ? 0 : value_offset_bytes(layer.exact, layer.head_dim);
    uint64_t tokens = 0;
    packed.n = end - begin;
    for (int64_t j = 0; j < packed.n; ++j) {
        packed.token[j] = static_cast<int>(params.kept[list + begin + j] - first_token);
        packed.row[j] = params.rows[list + begin + j] + offset;
        tokens |= uint64_t{1} << packed.token[j];
    }
    for (int64_t h = 0; h < n_heads; ++h) {
        const float* weights = weights_of(query, head + h) + first_token;
        for (int64_t j = 0; j < packed.n; ++j) packed.weight[h][j] = weights[packed.token[j]];
    }
    const PageSums sums = sums_of(query, head, n_heads, page, tokens);
    for (int64_t h = 0; h < n_heads; ++h) span_of(query, head + h, span).mass += sums.weights[h];
    if (first || layer.exact.v_codec != KC_CODEC_Q8) {
        kernels.attention_mix.rows_f16(packed.row, packed.n, packed.weight[0], kPageTokens, n_heads, layer.head_dim, 0,
                                       plain_of(query, head, span), head_stride());
        return tokens;
    }
    for (int64_t h = 0; h < n_heads; ++h) span_of(query, head + h, span).rotated_mass += sums.weights[h];
    add_q8(query, head, n_heads, span, exact_scales(layer.exact, sequence, page, static_cast<int32_t>(head / group)),
           packed);
    return tokens;
}

// Tokens kept[kept_begin, kept_end) of the list lie in this page.
void Mix::mix_page(int64_t query, int64_t head, int64_t n_heads, int64_t span, int32_t page, int64_t kept_begin,
                   int64_t kept_end) const {
    const kc_query_view& view = wave.queries[query];
    const int32_t position = wave.sequences[view.sequence].pages[page].position;
    const uint64_t seen = visible_tokens(position, view.n_visible, wave.n_sink, view.visible_from);
    PackedRows packed;
    if (params.kept == nullptr) {
        if (seen != 0) add_stored(query, head, n_heads, span, page, seen, packed);
        return;
    }
    const uint64_t kept =
        kept_end == kept_begin ? 0 : add_exact(query, head, n_heads, span, page, kept_begin, kept_end, packed);
    const uint64_t outside = seen & ~kept;
    if (params.mode != KC_MIX_SKETCHED || outside == 0) return;
    const PageSums sums = add_stored(query, head, n_heads, span, page, outside, packed);
    for (int64_t h = 0; h < n_heads; ++h) {
        SpanMix& result = span_of(query, head + h, span);
        result.mass += sums.weights[h];
        result.tail += sums.weights[h];
        result.squares += sums.squares[h];
    }
}

}  // namespace kc
