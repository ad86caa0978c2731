#include "cpu/kernels/mix_sums.h"

#include <algorithm>
#include <bit>

#include "cpu/kernels/half.h"

namespace kc {
namespace {

// weights[64], 0 for all but some tokens.
void only_these(const float* weights, uint64_t tokens, float* out) {
    if (std::popcount(tokens) < kPageTokens / 2) {
        std::fill_n(out, kPageTokens, 0.f);
        for (; tokens != 0; tokens &= tokens - 1) {
            const int t = std::countr_zero(tokens);
            out[t] = weights[t];
        }
        return;
    }
    std::copy_n(weights, kPageTokens, out);
    for (uint64_t others = ~tokens; others != 0; others &= others - 1) out[std::countr_zero(others)] = 0.f;
}

}  // namespace

// The sum of the weights of some tokens of a page, as all sums over weights run.
float Mix::mass_of(const float* weights, uint64_t tokens) const {
    float only[kPageTokens], sum, squares;
    if (tokens != ~uint64_t{0}) {
        only_these(weights, tokens, only);
        weights = only;
    }
    kernels.attention_score.sums(weights, &sum, &squares);
    return sum;
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

// Adds rows of q4, q3 or q2; all 64 of a block, the weights of those that do not count being 0.
void Mix::add_levels(int64_t query, int64_t head, int64_t n_heads, int64_t span, const Block& block,
                     const float* weights, uint64_t tokens) const {
    float scales[kPageTokens], scaled[kMaxGroup][kPageTokens];
    kernels.codec.from_f16(block_scales(block.codec, block.data, layer.head_dim), kPageTokens, scales);
    for (int64_t h = 0; h < n_heads; ++h) {
        const float* w = weights + h * wave.token_stride;
        for (int t = 0; t < kPageTokens; ++t) scaled[h][t] = w[t] * scales[t];
        // Scales of rows that were never written may be anything.
        for (uint64_t others = ~tokens; others != 0; others &= others - 1) scaled[h][std::countr_zero(others)] = 0.f;
    }
    int8_t levels[kMaxHeadDim * kPageTokens];
    kernels.codec.expand(block.codec, block.data, layer.head_dim, levels);
    kernels.attention_mix.levels(levels, scaled[0], kPageTokens, n_heads, layer.head_dim, rotated_of(query, head, span),
                                 head_stride());
}

void Mix::add_stored(int64_t query, int64_t head, int64_t n_heads, int64_t span, int32_t page, uint64_t tokens,
                     PackedRows& packed) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const Block block = block_of(layer.v, sequence, page, static_cast<int32_t>(head / group), layer.head_dim);
    const Block next = next_block_of(layer.v, sequence, page, static_cast<int32_t>(head / group), layer.head_dim);
    const float* weights = weights_of(query, head) + static_cast<int64_t>(page) * kPageTokens;
    if (block.codec != KC_CODEC_F16) {
        prefetch_block(next, layer.head_dim);
        for (int64_t h = 0; h < n_heads; ++h) {
            span_of(query, head + h, span).rotated_mass += mass_of(weights + h * wave.token_stride, tokens);
        }
        if (block.codec != KC_CODEC_Q8) return add_levels(query, head, n_heads, span, block, weights, tokens);
    }
    const int64_t row_bytes = (block.codec == KC_CODEC_F16 ? 2 : 1) * static_cast<int64_t>(layer.head_dim);
    packed.n = 0;
    for (uint64_t left = tokens; left != 0; left &= left - 1) {
        const int t = std::countr_zero(left);
        packed.row[packed.n] = block.data + t * row_bytes;
        packed.token[packed.n++] = t;
    }
    if (block.codec == KC_CODEC_F16 && packed.n == kPageTokens) {
        kernels.attention_mix.rows_f16(packed.row, packed.n, weights, wave.token_stride, n_heads, layer.head_dim,
                                       next.data - block.data, plain_of(query, head, span), head_stride());
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
    if (first || layer.exact.v_codec != KC_CODEC_Q8) {
        kernels.attention_mix.rows_f16(packed.row, packed.n, packed.weight[0], kPageTokens, n_heads, layer.head_dim, 0,
                                       plain_of(query, head, span), head_stride());
        return tokens;
    }
    for (int64_t h = 0; h < n_heads; ++h) {
        span_of(query, head + h, span).rotated_mass += mass_of(weights_of(query, head + h) + first_token, tokens);
    }
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
    if (params.mode != KC_MIX_SKETCHED) {
        for (int64_t h = 0; kept != 0 && h < n_heads; ++h) {
            span_of(query, head + h, span).mass +=
                mass_of(weights_of(query, head + h) + static_cast<int64_t>(page) * kPageTokens, kept);
        }
        return;
    }
    const uint64_t outside = seen & ~kept;
    if (outside != 0) add_stored(query, head, n_heads, span, page, outside, packed);
    for (int64_t h = 0; h < n_heads; ++h) {
        SpanMix& result = span_of(query, head + h, span);
        const float* weights = weights_of(query, head + h) + static_cast<int64_t>(page) * kPageTokens;
        float sum, squares;
        kernels.attention_score.sums(weights, &sum, &squares);
        result.mass += sum;
        if (kept != 0) {
            float others[kPageTokens];
            only_these(weights, outside, others);
            kernels.attention_score.sums(others, &sum, &squares);
        }
        result.tail += sum;
        result.squares += squares;
    }
}

}  // namespace kc
