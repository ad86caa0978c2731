#include "cpu/kernels/mix_sums.h"

#include <algorithm>
#include <bit>

#include "cpu/kernels/half.h"

namespace kc {
// As all sums over weights run.
PageSums Mix::sums_of(const float* weights, int64_t stride, int64_t n_heads, uint64_t tokens) const {
    PageSums sums;
    for (int64_t h = 0; h < n_heads; ++h) {
        kernels.attention_score.sums(weights + h * stride, tokens, &sums.weights[h], &sums.squares[h]);
    }
    return sums;
}

// Adds some rows of a block of f16 or q8; what lies ahead_bytes behind them is wanted next.
void Mix::add_rows(int64_t query, int64_t head, int64_t n_heads, int64_t span, const Block& block, int64_t ahead_bytes,
                   const float* weights, uint64_t tokens, PackedRows& packed) const {
    const bool coded = block.codec != KC_CODEC_F16;
    const int64_t row_bytes = (coded ? 1 : 2) * static_cast<int64_t>(layer.head_dim);
    packed.n = 0;
    for (uint64_t left = tokens; left != 0; left &= left - 1) {
        const int t = std::countr_zero(left);
        packed.row[packed.n] = block.data + t * row_bytes;
        packed.token[packed.n++] = t;
    }
    if (!coded && packed.n == kPageTokens) {
        kernels.attention_mix.rows_f16(packed.row, packed.n, weights, wave.token_stride, n_heads, layer.head_dim,
                                       ahead_bytes, plain_of(query, head, span), head_stride());
        return;
    }
    for (int64_t h = 0; h < n_heads; ++h) {
        std::copy_n(weights + h * wave.token_stride, kPageTokens, packed.weight[h]);
        if (coded) {
            const uint16_t* scales = block_scales(block.codec, block.data, layer.head_dim);
            kernels.attention_score.scale(packed.weight[h], scales, 0.f);
        }
        if (packed.n == kPageTokens) continue;
        for (int64_t j = 0; j < packed.n; ++j) packed.weight[h][j] = packed.weight[h][packed.token[j]];
    }
    if (coded) {
        kernels.attention_mix.rows_q8(packed.row, packed.n, packed.weight[0], kPageTokens, n_heads, layer.head_dim, 0,
                                      rotated_of(query, head, span), head_stride());
        return;
    }
    kernels.attention_mix.rows_f16(packed.row, packed.n, packed.weight[0], kPageTokens, n_heads, layer.head_dim, 0,
                                   plain_of(query, head, span), head_stride());
}

// The block that is read n blocks after that of a page.
Block Mix::block_after(const kc_sequence_view& sequence, int32_t kv_head, int32_t page, int32_t n,
                       const Course& course) const {
    if (page + n < course.last) return block_of(layer.v, sequence, page + n, kv_head, layer.head_dim);
    const int32_t then = std::min(course.next_page + page + n - course.last, sequence.n_pages - 1);
    return block_of(layer.v, sequence, then, course.next_head, layer.head_dim);
}

// Adds some tokens of a page of f16 or q8 from the V store; returns the sums of their weights.
PageSums Mix::add_stored(int64_t query, int64_t head, int64_t n_heads, int64_t span, int32_t page, const Block& block,
                         uint64_t tokens, const Course& course, PackedRows& packed) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const int32_t kv_head = static_cast<int32_t>(head / group);
    const float* weights = weights_of(query, head) + static_cast<int64_t>(page) * kPageTokens;
    if (block.codec == KC_CODEC_F16) {
        const Block next = block_after(sequence, kv_head, page, 1, course);
        add_rows(query, head, n_heads, span, block, next.data - block.data, weights, tokens, packed);
        return params.mode == KC_MIX_SKETCHED ? sums_of(weights, wave.token_stride, n_heads, tokens) : PageSums{};
    }
    prefetch_block(block_after(sequence, kv_head, page, kBlocksAhead, course), layer.head_dim);
    const PageSums sums = sums_of(weights, wave.token_stride, n_heads, tokens);
    add_rows(query, head, n_heads, span, block, 0, weights, tokens, packed);
    for (int64_t h = 0; h < n_heads; ++h) span_of(query, head + h, span).rotated_mass += sums.weights[h];
    return sums;
}

// The same for all pages of levels of a span.
PageSums Mix::add_levels(int64_t query, int64_t head, int64_t n_heads, int64_t span, const CodedPage* pages,
                         int64_t n_pages, const Course& course) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    // The scales are the first that is read of the span that comes next.
    for (int32_t n = 1; n <= kSpanPages; ++n) {
        const Block next = block_after(sequence, static_cast<int32_t>(head / group), course.last - 1, n, course);
        if (next.codec == KC_CODEC_F16) continue;
        prefetch_row(reinterpret_cast<const uint8_t*>(block_scales(next.codec, next.data, layer.head_dim)), 128);
    }
    PageSums sums;
    kernels.attention_mix.levels(layer.v.codec, pages, n_pages, wave.token_stride, n_heads, layer.head_dim,
                                 rotated_of(query, head, span), head_stride(), sums.weights, sums.squares);
    for (int64_t h = 0; h < n_heads; ++h) span_of(query, head + h, span).rotated_mass += sums.weights[h];
    return sums;
}

// Adds kept tokens [begin, end) of the list, at most a page's worth and of one kind, from their exact rows.
void Mix::add_exact(int64_t query, int64_t head, int64_t n_heads, int64_t span, int64_t begin, int64_t end,
                    PackedRows& packed) const {
    const kc_sequence_view& sequence = wave.sequences[wave.queries[query].sequence];
    const int32_t kv_head = static_cast<int32_t>(head / group);
    const int64_t list = (query * layer.n_kv_heads + kv_head) * params.kept_stride;
    const int32_t* kept = params.kept + list + begin;
    const bool first = in_first_store(layer.v, sequence, *kept / kPageTokens);
    const bool coded = !first && layer.exact.v_codec == KC_CODEC_Q8;
    const int64_t offset = first ? 0 : value_offset_bytes(layer.exact, layer.head_dim);
    packed.n = end - begin;
    for (int64_t j = 0; j < packed.n; ++j) packed.row[j] = params.rows[list + begin + j] + offset;
    for (int64_t h = 0; h < n_heads; ++h) {
        const float* weights = weights_of(query, head + h);
        for (int64_t j = 0; j < packed.n; ++j) packed.weight[h][j] = weights[kept[j]];
    }
    const PageSums sums = sums_of(packed.weight[0], kPageTokens, n_heads, low_bits(packed.n));
    for (int64_t h = 0; h < n_heads; ++h) {
        SpanMix& result = span_of(query, head + h, span);
        result.mass += sums.weights[h];
        if (coded) result.rotated_mass += sums.weights[h];
    }
    if (coded) {
        for (int64_t j = 0; j < packed.n; ++j) {
            const uint16_t* scales = exact_scales(layer.exact, sequence, kept[j] / kPageTokens, kv_head);
            const float scale = from_half(scales[kept[j] % kPageTokens]);
            for (int64_t h = 0; h < n_heads; ++h) packed.weight[h][j] *= scale;
        }
        kernels.attention_mix.rows_q8(packed.row, packed.n, packed.weight[0], kPageTokens, n_heads, layer.head_dim, 0,
                                      rotated_of(query, head, span), head_stride());
        return;
    }
    kernels.attention_mix.rows_f16(packed.row, packed.n, packed.weight[0], kPageTokens, n_heads, layer.head_dim, 0,
                                   plain_of(query, head, span), head_stride());
}

// What the tokens of a span weigh that are not among the kept ones [begin, end).
void Mix::sum_outside(int64_t query, int64_t head, int64_t n_heads, int64_t span, const int32_t* begin,
                      const int32_t* end) const {
    const int64_t first = span * kSpanPages;
    const int64_t n_pages = std::min<int64_t>(wave.sequences[wave.queries[query].sequence].n_pages - first, kSpanPages);
    uint64_t kept[kSpanPages] = {};
    for (; begin < end; ++begin) kept[*begin / kPageTokens - first] |= uint64_t{1} << *begin % kPageTokens;
    for (int64_t h = 0; h < n_heads; ++h) {
        SpanMix& result = span_of(query, head + h, span);
        kernels.select_topn.outside(weights_of(query, head + h) + first * kPageTokens, kept, n_pages, &result.tail,
                                    &result.squares);
    }
}

// Tokens kept[kept_begin, kept_end) of the list lie in this span.
void Mix::mix_heads(int64_t query, int64_t head, int64_t n_heads, int64_t span, int64_t kept_begin, int64_t kept_end,
                    const Course& course) const {
    const kc_query_view& view = wave.queries[query];
    const kc_sequence_view& sequence = wave.sequences[view.sequence];
    const int32_t first = static_cast<int32_t>(span * kSpanPages);
    const int32_t* kept =
        params.kept == nullptr ? nullptr : params.kept + (query * layer.n_kv_heads + head / group) * params.kept_stride;
    PackedRows packed;
    // While rows are on their way.
    if (measures() && params.mode != KC_MIX_SKETCHED) {
        sum_outside(query, head, n_heads, span, kept + kept_begin, kept + kept_end);
    }
    // Exact rows lie one by one whatever page they are of. Where all tokens are kept these are the pages again, so that
    // the sums have the bits of those without a choice.
    for (int64_t begin = kept_begin, end; begin < kept_end; begin = end) {
        end = std::min<int64_t>(begin + kPageTokens, kept_end);
        if (in_first_store(layer.v, sequence, kept[begin] / kPageTokens)) {
            end = std::lower_bound(kept + begin, kept + end, (kept[begin] / kPageTokens + 1) * kPageTokens) - kept;
        }
        add_exact(query, head, n_heads, span, begin, end, packed);
    }
    if (kept != nullptr && params.mode != KC_MIX_SKETCHED) return;
    CodedPage coded[kSpanPages];
    int64_t n_coded = 0;
    const auto count = [&](const PageSums& sums) {
        for (int64_t h = 0; kept != nullptr && h < n_heads; ++h) {
            SpanMix& result = span_of(query, head + h, span);
            result.mass += sums.weights[h];
            result.tail += sums.weights[h];
            result.squares += sums.squares[h];
        }
    };
    for (int32_t page = first; page < course.last; ++page) {
        const int64_t page_begin = int64_t{page} * kPageTokens;
        uint64_t tokens = visible_tokens(sequence.pages[page].position, view.n_visible, wave.n_sink, view.visible_from);
        for (; kept_begin < kept_end && kept[kept_begin] < page_begin + kPageTokens; ++kept_begin) {
            tokens &= ~(uint64_t{1} << (kept[kept_begin] - page_begin));
        }
        if (tokens == 0) continue;
        const Block block = block_of(layer.v, sequence, page, static_cast<int32_t>(head / group), layer.head_dim);
        if (block.codec == KC_CODEC_F16 || block.codec == KC_CODEC_Q8) {
            count(add_stored(query, head, n_heads, span, page, block, tokens, course, packed));
        } else {
            coded[n_coded++] = {block.data, block_scales(block.codec, block.data, layer.head_dim),
                                weights_of(query, head) + page_begin, tokens};
        }
    }
    if (n_coded != 0) count(add_levels(query, head, n_heads, span, coded, n_coded, course));
}

}  // namespace kc
