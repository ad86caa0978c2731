#include "cpu/kernels/attention_full.h"

#include <algorithm>
#include <cmath>

#include "cpu/context.h"
#include "cpu/kernels/half.h"
#include "cpu/kernels/layout.h"

namespace kc {
namespace {

// Rows of q that share one pass over the keys and values, about.
constexpr int64_t kTileRows = 48;

int64_t group_of(const kc_layer_view& layer) { return layer.n_q_heads / layer.n_kv_heads; }
int64_t tile_tokens(const kc_layer_view& layer) { return std::max<int64_t>(1, kTileRows / group_of(layer)); }

// The scratch of one thread, carved.
struct Tile {
    float* q;      // [rows, head_dim]
    float* page;   // keys [head_dim, 64] or values [64, head_dim]
    float* span;   // [rows, head_dim]
    float* total;  // [rows, head_dim]
    float* max;    // [rows]
    float* first;  // [rows]: the largest score of the first page that a row sees; NaN before there is one
    float* last;   // [rows]: of the last one
    float* mass;   // [rows]
    // Where K or V are coded: q rotated, its product with the centre of K; the sums of rotated values, the mass of
    // their weights, and the weights of a page times the scales of its rows.
    float* rotated_q;      // [rows, head_dim]
    float* offset;         // [rows]
    float* rotated_span;   // [rows, head_dim]
    float* rotated_total;  // [rows, head_dim]
    float* rotated_mass;   // [rows]
    float* span_mass;      // [rows]
    float* weights;        // [rows, 64]
    int32_t* used;         // [pages]: those that some row sees
    float* scores;         // [rows, pages * 64], pages as in `used`

    static int64_t carve(const kc_layer_view& layer, int64_t n_pages, float* base, Tile* tile) {
        const int64_t rows = tile_tokens(layer) * group_of(layer);
        int64_t at = 0;
        const auto take = [&](int64_t n) {
            float* p = base == nullptr ? nullptr : base + at;
            at += round_up(n, 16);
            return p;
        };
        tile->q = take(rows * layer.head_dim);
        tile->page = take(static_cast<int64_t>(layer.head_dim) * kPageTokens);
        tile->span = take(rows * layer.head_dim);
        tile->total = take(rows * layer.head_dim);
        tile->max = take(rows);
        tile->first = take(rows);
        tile->last = take(rows);
        tile->mass = take(rows);
        const bool coded_k = layer.k.first != nullptr, coded_v = layer.v.first != nullptr;
        tile->rotated_q = take(coded_k ? rows * layer.head_dim : 0);
        tile->offset = take(coded_k ? rows : 0);
        tile->rotated_span = take(coded_v ? rows * layer.head_dim : 0);
        tile->rotated_total = take(coded_v ? rows * layer.head_dim : 0);
        tile->rotated_mass = take(coded_v ? rows : 0);
        tile->span_mass = take(coded_v ? rows : 0);
        tile->weights = take(coded_v ? rows * kPageTokens : 0);
        tile->used = reinterpret_cast<int32_t*>(take(n_pages));
        tile->scores = take(rows * n_pages * kPageTokens);
        return at;
    }
};

struct Full {
    const kc_attention_full_params& params;
    const kc_layer_view& layer;
    const Kernels& kernels;
    int64_t group;

    void run_tile(int32_t s, int32_t kv_head, int32_t first, Tile& tile) const;
    void score_pages(int32_t s, int32_t kv_head, int64_t n_rows, int32_t position, int64_t n_used, Tile& tile) const;
    void mix_pages(int32_t s, int32_t kv_head, int64_t n_rows, int32_t last_position, int64_t n_used, Tile& tile) const;
    void rotate_queries(int32_t s, int32_t kv_head, int64_t n_rows, Tile& tile) const;
    void score_page(int32_t s, int32_t page, int32_t kv_head, int64_t n_rows, float* scores, int64_t stride,
                    Tile& tile) const;
    void mix_page(int32_t s, int32_t page, int32_t kv_head, int64_t n_rows, int n_tokens, const float* weights,
                  int64_t stride, Tile& tile) const;
    void load_values(int32_t s, int32_t page, int32_t kv_head, int n_tokens, float* values,
                     const uint16_t** scales) const;
    const uint8_t* exact_page(int32_t s, int32_t page, int32_t kv_head) const;
    void prefetch_page(int32_t s, int32_t page, int32_t kv_head, bool values) const;

    // The tokens of a page that the row of a token at `position` sees.
    uint64_t seen_by(int32_t page_position, int32_t position) const {
        const int64_t from = params.n_recent < 0 ? 0 : int64_t{position} + 1 - params.n_recent;
        return visible_tokens(page_position, int64_t{position} + 1, params.n_sink, from);
    }
};

const uint8_t* Full::exact_page(int32_t s, int32_t page, int32_t kv_head) const {
    const int32_t slot = params.sequences[s].pages[page].exact;
    if (slot >= 0) return exact_rows(layer.exact, slot, kv_head);
    return params.staged[s][page] + (kv_head - params.kv_head_begin) * kPageTokens * layer.exact.row_bytes;
}

// Keys or values of a page that comes next: a tile takes longer to work on one than memory to bring the other.
void Full::prefetch_page(int32_t s, int32_t page, int32_t kv_head, bool values) const {
    const kc_store& store = values ? layer.v : layer.k;
    const bool exact = layer.exact.base != nullptr && (values || layer.exact.has_k);
    if (exact && !in_first_store(store, params.sequences[s], page)) {
        const uint8_t* row =
            exact_page(s, page, kv_head) + (values ? value_offset_bytes(layer.exact, layer.head_dim) : 0);
        const int64_t n_bytes = (values && layer.exact.v_codec == KC_CODEC_Q8 ? 1 : 2) * int64_t{layer.head_dim};
        for (int t = 0; t < kPageTokens; ++t, row += layer.exact.row_bytes) prefetch_row(row, n_bytes);
        return;
    }
    prefetch_block(block_of(store, params.sequences[s], page, kv_head, layer.head_dim), layer.head_dim);
}

void Full::rotate_queries(int32_t s, int32_t kv_head, int64_t n_rows, Tile& tile) const {
    const kc_sequence_view& sequence = params.sequences[s];
    const int64_t head_dim = layer.head_dim;
    if (layer.k.first == nullptr || layer.exact.has_k || sequence.first_page < 0) return;
    const float* centre = centre_of(layer.k, sequence, kv_head, layer.head_dim);
    for (int64_t r = 0; r < n_rows; ++r) {
        float* q = tile.rotated_q + r * head_dim;
        std::copy_n(tile.q + r * head_dim, head_dim, q);
        kernels.codec.rotate(q, head_dim);
        float offset = 0.f;
        for (int64_t d = 0; d < head_dim; ++d) offset += q[d] * centre[d];
        tile.offset[r] = offset * layer.scale;
    }
}

void Full::score_page(int32_t s, int32_t page, int32_t kv_head, int64_t n_rows, float* scores, int64_t stride,
                      Tile& tile) const {
    const AttentionFullBodies& bodies = kernels.attention_full;
    const int64_t head_dim = layer.head_dim;
    const Block block = block_of(layer.k, params.sequences[s], page, kv_head, layer.head_dim);
    if (block.codec == KC_CODEC_F16) {
        kernels.codec.from_f16(reinterpret_cast<const uint16_t*>(block.data), head_dim * kPageTokens, tile.page);
    } else if (layer.exact.has_k) {
        kernels.codec.transpose(exact_page(s, page, kv_head), layer.exact.row_bytes, head_dim, tile.page);
    } else {
        load_block(kernels.codec, block.codec, false, block.data, layer.head_dim, tile.page);
        bodies.scores(tile.rotated_q, n_rows, tile.page, head_dim, layer.scale, scores, stride);
        const uint16_t* scales = block_scales(block.codec, block.data, layer.head_dim);
        for (int64_t r = 0; r < n_rows; ++r) {
            kernels.attention_score.scale(scores + r * stride, scales, tile.offset[r]);
        }
        return;
    }
    bodies.scores(tile.q, n_rows, tile.page, head_dim, layer.scale, scores, stride);
}

void Full::score_pages(int32_t s, int32_t kv_head, int64_t n_rows, int32_t position, int64_t n_used, Tile& tile) const {
    const int64_t stride = n_used * kPageTokens;
    // Counted in a decode step; here a score that is none just does not count.
    int32_t n_nonfinite = 0;
    std::fill_n(tile.max, n_rows, kUnseen);
    std::fill_n(tile.first, n_rows, NAN);
    for (int64_t u = 0; u < n_used; ++u) {
        float* scores = tile.scores + u * kPageTokens;
        if (u + 1 < n_used) prefetch_page(s, tile.used[u + 1], kv_head, false);
        score_page(s, tile.used[u], kv_head, n_rows, scores, stride, tile);
        const int32_t page_position = params.sequences[s].pages[tile.used[u]].position;
        for (int64_t r = 0; r < n_rows; ++r) {
            float* row = scores + r * stride;
            const uint64_t seen = seen_by(page_position, position + static_cast<int32_t>(r / group));
            hide_unseen(row, seen);
            if (seen == 0) continue;
            float max = kUnseen;
            kernels.attention_score.scan(row, &max, &n_nonfinite);
            if (std::isnan(tile.first[r])) tile.first[r] = max;
            tile.last[r] = max;
            tile.max[r] = std::max(tile.max[r], max);
        }
    }
}

// Values of the first n_tokens of a page as floats; what lies behind was not written yet and counts as zeros. Coded
// values are integers: their scales go to `scales`, which is nullptr otherwise.
void Full::load_values(int32_t s, int32_t page, int32_t kv_head, int n_tokens, float* values,
                       const uint16_t** scales) const {
    const kc_sequence_view& sequence = params.sequences[s];
    const int64_t head_dim = layer.head_dim;
    *scales = nullptr;
    if (layer.exact.base == nullptr || in_first_store(layer.v, sequence, page)) {
        const Block block = block_of(layer.v, sequence, page, kv_head, layer.head_dim);
        if (block.codec == KC_CODEC_F16) {
            kernels.codec.from_f16(reinterpret_cast<const uint16_t*>(block.data), n_tokens * head_dim, values);
        } else {
            load_block(kernels.codec, block.codec, true, block.data, layer.head_dim, values);
            *scales = block_scales(block.codec, block.data, layer.head_dim);
        }
    } else {
        const uint8_t* row = exact_page(s, page, kv_head) + value_offset_bytes(layer.exact, layer.head_dim);
        const bool q8 = layer.exact.v_codec == KC_CODEC_Q8;
        if (q8) *scales = exact_scales(layer.exact, sequence, page, kv_head);
        for (int t = 0; t < n_tokens; ++t, row += layer.exact.row_bytes) {
            float* to = values + t * head_dim;
            if (q8) {
                for (int64_t d = 0; d < head_dim; ++d) to[d] = reinterpret_cast<const int8_t*>(row)[d];
            } else {
                kernels.codec.from_f16(reinterpret_cast<const uint16_t*>(row), head_dim, to);
            }
        }
    }
    std::fill(values + n_tokens * head_dim, values + kPageTokens * head_dim, 0.f);
}

void Full::mix_page(int32_t s, int32_t page, int32_t kv_head, int64_t n_rows, int n_tokens, const float* weights,
                    int64_t stride, Tile& tile) const {
    const uint16_t* scales;
    load_values(s, page, kv_head, n_tokens, tile.page, &scales);
    if (scales == nullptr) {
        kernels.attention_full.mix(weights, stride, n_rows, tile.page, layer.head_dim, tile.span);
        return;
    }
    float factors[kPageTokens] = {};
    for (int t = 0; t < n_tokens; ++t) factors[t] = from_half(scales[t]);
    for (int64_t r = 0; r < n_rows; ++r) {
        const float* row = weights + r * stride;
        float sum, squares;
        for (int t = 0; t < kPageTokens; ++t) tile.weights[r * kPageTokens + t] = row[t] * factors[t];
        kernels.attention_score.sums(row, ~uint64_t{0}, &sum, &squares);
        tile.span_mass[r] += sum;
    }
    kernels.attention_full.mix(tile.weights, kPageTokens, n_rows, tile.page, layer.head_dim, tile.rotated_span);
}

void Full::mix_pages(int32_t s, int32_t kv_head, int64_t n_rows, int32_t last_position, int64_t n_used,
                     Tile& tile) const {
    const kc_sequence_view& sequence = params.sequences[s];
    const ElementwiseBodies& elementwise = kernels.elementwise;
    const int64_t stride = n_used * kPageTokens;
    const int64_t n_values = n_rows * layer.head_dim;
    const bool coded = layer.v.first != nullptr;
    std::fill_n(tile.total, n_values, 0.f);
    std::fill_n(tile.mass, n_rows, 0.f);
    if (coded) std::fill_n(tile.rotated_total, n_values, 0.f);
    if (coded) std::fill_n(tile.rotated_mass, n_rows, 0.f);
    for (int64_t begin = 0, end; begin < n_used; begin = end) {
        const int32_t span = tile.used[begin] / kSpanPages;
        for (end = begin + 1; end < n_used && tile.used[end] / kSpanPages == span;) ++end;
        for (int64_t r = 0; r < n_rows; ++r) {
            const float reference = reference_score(std::max(tile.first[r], tile.last[r]), tile.max[r]);
            tile.mass[r] += kernels.attention_score.exponentials(tile.scores + r * stride + begin * kPageTokens,
                                                                 end - begin, reference_or_zero(reference));
        }
        std::fill_n(tile.span, n_values, 0.f);
        if (coded) std::fill_n(tile.rotated_span, n_values, 0.f);
        if (coded) std::fill_n(tile.span_mass, n_rows, 0.f);
        for (int64_t u = begin; u < end; ++u) {
            const int32_t page = tile.used[u];
            const int n_tokens = std::min(kPageTokens, last_position + 1 - sequence.pages[page].position);
            if (u + 1 < n_used) prefetch_page(s, tile.used[u + 1], kv_head, true);
            mix_page(s, page, kv_head, n_rows, n_tokens, tile.scores + u * kPageTokens, stride, tile);
        }
        elementwise.add(tile.total, tile.span, n_values, tile.total);
        if (coded) elementwise.add(tile.rotated_total, tile.rotated_span, n_values, tile.rotated_total);
        if (coded) elementwise.add(tile.rotated_mass, tile.span_mass, n_rows, tile.rotated_mass);
    }
}

// Rows of the tokens first, first + 1 ... of a sequence's new rows.
void Full::run_tile(int32_t s, int32_t kv_head, int32_t first, Tile& tile) const {
    const kc_sequence_view& sequence = params.sequences[s];
    const int64_t head_dim = layer.head_dim;
    const int64_t n_tokens = std::min<int64_t>(tile_tokens(layer), sequence.n_rows - first);
    const int64_t n_rows = n_tokens * group;
    const int32_t position = sequence.n_past + first;
    const int32_t last_position = position + static_cast<int32_t>(n_tokens) - 1;
    // Row r of the tile is token r / group and head r % group.
    const auto offset = [&](int64_t token) {
        return ((sequence.first_row + first + token) * static_cast<int64_t>(layer.n_q_heads) + kv_head * group) *
               head_dim;
    };
    for (int64_t t = 0; t < n_tokens; ++t) {
        std::copy_n(params.q + offset(t), group * head_dim, tile.q + t * group * head_dim);
    }
    int64_t n_used = 0;
    for (int32_t page = 0; page < sequence.n_pages; ++page) {
        uint64_t seen = 0;
        for (int32_t p = position; p <= last_position; ++p) seen |= seen_by(sequence.pages[page].position, p);
        if (seen != 0) tile.used[n_used++] = page;
    }
    rotate_queries(s, kv_head, n_rows, tile);
    score_pages(s, kv_head, n_rows, position, n_used, tile);
    mix_pages(s, kv_head, n_rows, last_position, n_used, tile);
    for (int64_t r = 0; r < n_rows; ++r) {
        const float inverse = tile.mass[r] > 0.f ? 1.f / tile.mass[r] : 0.f;
        float* out = params.out + offset(r / group) + r % group * head_dim;
        if (layer.v.first != nullptr) {
            add_rotated(kernels.codec, centre_of(layer.v, sequence, kv_head, layer.head_dim), tile.rotated_mass[r],
                        layer.head_dim, tile.rotated_total + r * head_dim, tile.total + r * head_dim);
        }
        for (int64_t d = 0; d < head_dim; ++d) out[d] = tile.total[r * head_dim + d] * inverse;
    }
}

int64_t thread_floats(const kc_layer_view& layer, int64_t n_pages) {
    Tile tile;
    return Tile::carve(layer, n_pages, nullptr, &tile);
}

}  // namespace

uint64_t attention_full_scratch_bytes(CpuContext& context, const kc_layer_view& layer, int64_t n_context) {
    const int64_t floats = thread_floats(layer, ceil_div(n_context, kPageTokens));
    return static_cast<uint64_t>(context.pool.n_threads() * floats) * sizeof(float);
}

void attention_full(CpuContext& context, const kc_attention_full_params& params) {
    const kc_layer_view& layer = *params.layer;
    const Full full{params, layer, *context.kernels, group_of(layer)};
    const int32_t head_end = params.kv_head_end == 0 ? layer.n_kv_heads : params.kv_head_end;
    const int64_t n_heads = head_end - params.kv_head_begin;
    const int64_t tokens = tile_tokens(layer);
    int64_t n_pages = 0, n_tiles = 0;
    for (int32_t s = 0; s < params.n_sequences; ++s) {
        n_pages = std::max<int64_t>(n_pages, params.sequences[s].n_pages);
        n_tiles += ceil_div(params.sequences[s].n_rows, tokens);
    }
    const int64_t stride = thread_floats(layer, n_pages);
    context.pool.run(n_tiles * n_heads, 1, [&](int64_t begin, int64_t end, int worker) {
        Tile tile;
        Tile::carve(layer, n_pages, static_cast<float*>(params.scratch) + worker * stride, &tile);
        for (int64_t i = begin; i < end; ++i) {
            // The last tiles of a sequence see most tokens: they go first, so that no thread is left with a long one.
            int64_t t = n_tiles - 1 - i / n_heads;
            int32_t s = 0;
            for (; t >= ceil_div(params.sequences[s].n_rows, tokens); ++s)
                t -= ceil_div(params.sequences[s].n_rows, tokens);
            const auto head = static_cast<int32_t>(params.kv_head_begin + i % n_heads);
            full.run_tile(s, head, static_cast<int32_t>(t * tokens), tile);
        }
    });
}

}  // namespace kc
