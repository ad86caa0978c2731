// Purpose:  a prompt's rows attend exactly to all that they see; spilled pages come in from staged blocks.
// Shapes:   q, out [n_rows, n_q_heads, head_dim]; K pages and V pages or exact rows of 64 tokens.
// Mapping:  a block per (tile of 16 rows of one KV head's group, KV head, sequence); a page of keys, then of values,
//           lies in shared memory while all 16 rows use it. Both products run on tensor cores: a warp per 16 keys and
//           half of head_dim, then a warp per 16 dimensions. Between them 16 threads a row: 4 weights each.
// Traffic:  a tile reads every page it sees once: rows / 16 * tokens * head_dim * 4 bytes a KV head.
// Numerics: queries and weights as two halves each, sums in float; coded rows meet rotated queries and sum up rotated;
//           the softmax runs online, page by page in ascending order, so that a row's bits depend on what it sees and
//           never on how the prompt is cut into calls or tiles.
#include "kernels/attention_full.h"

#include <vector>

#include "device/codec.h"
#include "device/launch.h"
#include "kernels/attention.h"

namespace kc::cuda {
namespace {

struct Full {
    kc_layer_view layer;
    Frame frame;
    const uint8_t* const*
        staged;  // [sequences, max_pages], NULL entries where a page lies in a fast slot; NULL: none is spilled
    int64_t max_pages;
    int32_t n_sink;
    int32_t n_recent;
    int32_t kv_head_begin;
    const float* q;
    float* out;
};

// The rows of one tile; row r is token r / group, head r % group.
struct Tile {
    const Full& a;
    const kc_sequence_view& sequence;
    int kv_head;
    int group;
    int first;  // row of the sequence's rows times heads
    int n_rows;

    __device__ int token_of(int r) const { return (first + r) / group; }
    __device__ int position_of(int r) const { return sequence.n_past + token_of(r); }
    __device__ int64_t offset_of(int r) const {
        return ((sequence.first_row + token_of(r)) * static_cast<int64_t>(a.layer.n_q_heads) + kv_head * group +
                (first + r) % group) *
               a.layer.head_dim;
    }
    __device__ bool row_sees(int position, int token) const {
        return token <= position && (a.n_recent < 0 || token < a.n_sink || token > position - a.n_recent);
    }
    // Whether any row of the tile sees a token of the page: its rows are adjacent positions.
    __device__ bool sees_page(int page_position) const {
        const int low = position_of(0), high = position_of(n_rows - 1);
        return page_position <= high &&
               (a.n_recent < 0 || page_position < a.n_sink || page_position + kPageTokens - 1 > low - a.n_recent);
    }

    // A page of f16 rows to shared memory; what lies behind the last token was not written yet and counts as zeros.
    __device__ void load_plain(const uint8_t* rows, int64_t stride_bytes, int page_position, const Page& into) const {
        const int pieces = a.layer.head_dim / 8, n_tokens = sequence.n_past + sequence.n_rows - page_position;
        for (int i = threadIdx.x; i < kPageTokens * pieces; i += kThreads) {
            const int t = i / pieces, piece = i % pieces;
            uint4 data = make_uint4(0, 0, 0, 0);
            if (t < n_tokens) data = *reinterpret_cast<const uint4*>(rows + t * stride_bytes + piece * 16);
            *reinterpret_cast<uint4*>(into.rows + t * (a.layer.head_dim + kPad) + piece * 8) = data;
        }
    }
    // A page of coded rows.
    template <int kCodec>
    __device__ void load_coded(const uint8_t* rows, int64_t stride_bytes, const uint16_t* scales, int page_position,
                               const Page& into) const {
        const int head_dim = a.layer.head_dim, pieces = head_dim / 8,
                  n_tokens = sequence.n_past + sequence.n_rows - page_position;
        for (int i = threadIdx.x; i < kPageTokens * pieces; i += kThreads) {
            const int t = i / pieces, piece = i % pieces;
            Halves8 levels = {};
            float factor = 0.f;
            if (t < n_tokens) {
                levels = load_levels8<kCodec>(rows + t * stride_bytes, piece, head_dim);
                factor = level_factor(from_half(scales[t]));
            }
            for (int j = 0; j < 8; ++j)
                into.rows[t * (head_dim + kPad) + piece * 8 + j] = to_half(levels.x[j] * factor);
        }
        for (int t = threadIdx.x; t < kPageTokens; t += kThreads) {
            const float scale = t < n_tokens ? from_half(scales[t]) : 0.f;
            into.scales[t] = scale / level_factor(scale);
        }
    }
    __device__ bool load_store(const kc_store& store, int page, const Page& into) const {
        const int head_dim = a.layer.head_dim, position = sequence.pages[page].position;
        if (store.codec == KC_CODEC_F16 || in_first_store(store, sequence, page)) {
            load_plain(f16_block(store, sequence, page, kv_head, head_dim), 2 * head_dim, position, into);
            return false;
        }
        const uint8_t* block = store_block(store, sequence, page, kv_head, head_dim);
        const uint16_t* scales = block_scales(block, store.codec, head_dim);
        const int stride = packed_row_bytes(store.codec, head_dim);
        if (store.codec == KC_CODEC_Q8)
            load_coded<KC_CODEC_Q8>(block, stride, scales, position, into);
        else if (store.codec == KC_CODEC_Q4)
            load_coded<KC_CODEC_Q4>(block, stride, scales, position, into);
        else if (store.codec == KC_CODEC_Q3)
            load_coded<KC_CODEC_Q3>(block, stride, scales, position, into);
        else
            load_coded<KC_CODEC_Q2>(block, stride, scales, position, into);
        return true;
    }
    __device__ const uint8_t* exact_page(int s, int page) const {
        const kc_exact_store& exact = a.layer.exact;
        const int slot = sequence.pages[page].exact;
        return slot >= 0
                   ? exact_rows(exact, slot, kv_head)
                   : a.staged[s * a.max_pages + page] + (kv_head - a.kv_head_begin) * kPageTokens * exact.row_bytes;
    }
    // Both return whether the rows are coded.
    __device__ bool load_keys(int s, int page, const Page& into) const {
        const kc_exact_store& exact = a.layer.exact;
        if (exact.base == nullptr || !exact.has_k || in_first_store(a.layer.k, sequence, page))
            return load_store(a.layer.k, page, into);
        load_plain(exact_page(s, page), exact.row_bytes, sequence.pages[page].position, into);
        return false;
    }
    __device__ bool load_values(int s, int page, const Page& into) const {
        const kc_exact_store& exact = a.layer.exact;
        const int position = sequence.pages[page].position;
        if (exact.base == nullptr || in_first_store(a.layer.v, sequence, page))
            return load_store(a.layer.v, page, into);
        const uint8_t* rows = exact_page(s, page) + value_offset_bytes(exact, a.layer.head_dim);
        if (exact.v_codec == KC_CODEC_F16) {
            load_plain(rows, exact.row_bytes, position, into);
            return false;
        }
        load_coded<KC_CODEC_Q8>(rows, exact.row_bytes, exact_scales(exact, sequence, page, kv_head), position, into);
        return true;
    }
};

__global__ void __launch_bounds__(kThreads) attend_tile(Full a) {
    const int s = blockIdx.z, head_dim = a.layer.head_dim, group = a.layer.n_q_heads / a.layer.n_kv_heads;
    const kc_sequence_view& sequence = a.frame.sequences[s];
    const int first = static_cast<int>(blockIdx.x) * kRows;
    if (first >= sequence.n_rows * group) return;
    const Tile tile = {a,     sequence, a.kv_head_begin + static_cast<int>(blockIdx.y),
                       group, first,    min(kRows, sequence.n_rows * group - first)};

    const Shared shared(head_dim);
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
    for (int i = threadIdx.x; i < kRows * head_dim; i += kThreads) {
        const int row = i / head_dim, d = i % head_dim;
        const float x = row < tile.n_rows ? a.q[tile.offset_of(row) + d] : 0.f;
        shared.work[row * shared.work_stride + d] = x;
        shared.q.set(row, d, x);
    }
    __syncthreads();
    const bool k_centred = a.layer.k.centre != nullptr && sequence.first_page >= 0,
               v_centred = a.layer.v.centre != nullptr && sequence.first_page >= 0;
    for (int row = warp; row < kRows && k_centred; row += kThreads / kWarp) {
        float* turned = shared.work + row * shared.work_stride;
        rotate<WarpTeam>(turned, head_dim);
        const float* centre = centre_of(a.layer.k, sequence, tile.kv_head, head_dim);
        float dot = 0.f;
        for (int d = lane; d < head_dim; d += kWarp) {
            dot = fmaf(turned[d], centre[d], dot);
            shared.q_turned.set(row, d, turned[d]);
        }
        dot = lanes_sum(dot);
        if (lane == 0) shared.centred[row] = dot;
    }
    const int r = static_cast<int>(threadIdx.x) / kRowThreads, column = static_cast<int>(threadIdx.x) % kRowThreads;
    const int position = r < tile.n_rows ? tile.position_of(r) : -1;
    // Tiles of head_dim in the first part.
    const int split = (head_dim / kTile + 1) / 2 * kTile;
    float largest = -INFINITY, mass = 0.f, turned_mass = 0.f, sums[kMaxDims] = {}, turned_sums[kMaxDims] = {};
    for (int page = 0; page < sequence.n_pages; ++page) {
        const int page_position = sequence.pages[page].position;
        if (!tile.sees_page(page_position)) continue;
        __syncthreads();
        const bool coded_keys = tile.load_keys(s, page, shared.keys);
        __syncthreads();
        const int keys = warp % kKeyTiles * kTile, part = warp / kKeyTiles;
        tensor_product<ByColumn>(coded_keys ? shared.q_turned : shared.q, part == 0 ? 0 : split,
                                 part == 0 ? split : head_dim, shared.keys.rows + keys * (head_dim + kPad),
                                 head_dim + kPad, shared.scores + part * kRows * kScoreStride + keys, kScoreStride);
        __syncthreads();
        const bool coded_values = tile.load_values(s, page, shared.values);
        float weights[kScores], page_largest = -INFINITY;
#pragma unroll
        for (int j = 0; j < kScores; ++j) {
            const int t = column + j * kRowThreads;
            const float* score = shared.scores + r * kScoreStride + t;
            float dot = score[0] + score[kRows * kScoreStride];
            if (coded_keys) dot = fmaf(dot, shared.keys.scales[t], shared.centred[r]);
            dot *= a.layer.scale;
            weights[j] = tile.row_sees(position, page_position + t) && isfinite(dot) ? dot : -INFINITY;
            page_largest = weights[j] > page_largest ? weights[j] : page_largest;
        }
        page_largest = lanes_max(page_largest, kRowThreads);
        // A page of which the row sees nothing changes nothing: largest stays, and the correction is exactly 1.
        const float before = largest;
        largest = page_largest > largest ? page_largest : largest;
        const float correction = largest == -INFINITY ? 1.f : expf(before - largest);
        float page_mass = 0.f;
#pragma unroll
        for (int j = 0; j < kScores; ++j) {
            weights[j] = weights[j] == -INFINITY ? 0.f : expf(weights[j] - largest);
            page_mass += weights[j];
        }
        page_mass = lanes_sum(page_mass, kRowThreads);
        mass = fmaf(mass, correction, page_mass);
        turned_mass = fmaf(turned_mass, correction, coded_values ? page_mass : 0.f);
        __syncthreads();
#pragma unroll
        for (int j = 0; j < kScores; ++j) {
            const int t = column + j * kRowThreads;
            shared.weights.set(r, t, kLift * (coded_values ? weights[j] * shared.values.scales[t] : weights[j]));
        }
        __syncthreads();
        for (int d = warp * kTile; d < head_dim; d += kThreads / kWarp * kTile)
            tensor_product<ByRow>(shared.weights, 0, kPageTokens, shared.values.rows + d, head_dim + kPad,
                                  shared.work + d, shared.work_stride);
        __syncthreads();
#pragma unroll
        for (int j = 0; j < kMaxDims; ++j) {
            const int d = column + j * kRowThreads;
            if (d >= head_dim) break;
            const float sum = shared.work[r * shared.work_stride + d] * (1.f / kLift);
            sums[j] = fmaf(sums[j], correction, coded_values ? 0.f : sum);
            turned_sums[j] = fmaf(turned_sums[j], correction, coded_values ? sum : 0.f);
        }
    }
    float* turned = shared.work + r * shared.work_stride;
    if (v_centred) {
        // A warp turns two rows back.
        __syncthreads();
        const float* centre = centre_of(a.layer.v, sequence, tile.kv_head, head_dim);
#pragma unroll
        for (int j = 0; j < kMaxDims; ++j) {
            const int d = column + j * kRowThreads;
            if (d >= head_dim) break;
            turned[d] = turned_mass > 0.f ? fmaf(turned_mass, centre[d], turned_sums[j]) : turned_sums[j];
        }
        __syncthreads();
        for (int row = warp; row < kRows; row += kThreads / kWarp)
            rotate_back<WarpTeam>(shared.work + row * shared.work_stride, head_dim);
        __syncthreads();
    }
    if (r >= tile.n_rows) return;
    const float inverse = mass > 0.f ? 1.f / mass : 0.f;
#pragma unroll
    for (int j = 0; j < kMaxDims; ++j) {
        const int d = column + j * kRowThreads;
        if (d < head_dim) a.out[tile.offset_of(r) + d] = (v_centred ? sums[j] + turned[d] : sums[j]) * inverse;
    }
}

}  // namespace

uint64_t attention_full_scratch_bytes(Context&, const kc_layer_view&, int64_t) { return 64; }

void attention_full(Context& context, const kc_attention_full_params& params) {
    const kc_layer_view& layer = *params.layer;
    Full full = {layer,
                 context.frames().upload(params.sequences, params.n_sequences),
                 nullptr,
                 0,
                 params.n_sink,
                 params.n_recent,
                 params.kv_head_begin,
                 params.q,
                 params.out};
    int64_t most_rows = 0;
    for (int32_t s = 0; s < params.n_sequences; ++s) {
        full.max_pages = max(full.max_pages, int64_t{params.sequences[s].n_pages});
        most_rows = max(most_rows, int64_t{params.sequences[s].n_rows});
    }
    if (most_rows == 0) return;
    if (params.staged) {
        std::vector<const uint8_t*> pages(static_cast<size_t>(params.n_sequences * full.max_pages), nullptr);
        for (int32_t s = 0; s < params.n_sequences; ++s) {
            if (!params.staged[s]) continue;
            for (int32_t p = 0; p < params.sequences[s].n_pages; ++p)
                pages[static_cast<size_t>(s * full.max_pages + p)] = params.staged[s][p];
        }
        full.staged =
            static_cast<const uint8_t* const*>(context.frames().upload(pages.data(), pages.size() * sizeof pages[0]));
    }
    const int64_t group = layer.n_q_heads / layer.n_kv_heads;
    const int n_heads = (params.kv_head_end ? params.kv_head_end : layer.n_kv_heads) - params.kv_head_begin;
    const dim3 grid(static_cast<unsigned>(ceil_div(most_rows * group, kRows)), static_cast<unsigned>(n_heads),
                    static_cast<unsigned>(params.n_sequences));
    launch(attend_tile, grid, kThreads, shared_bytes_of(static_cast<size_t>(layer.head_dim)), context.stream(), full);
}

}  // namespace kc::cuda
