// Purpose:  weights times values: of every visible token, or of the kept ones from wherever their exact rows lie.
// Shapes:   weights [n_queries, n_q_heads, token_stride], rows [n_queries, n_kv_heads, kept_stride] to out [n_rows, n_q_heads, head_dim].
// Mapping:  mix: a block per (span of 16 pages, KV head and up to 4 of its query heads, query); head_dim / 8 lanes per page, so
//           a lane adds up 8 dimensions of a page, token by token. finish: a block per (q head, query), a thread per dimension.
// Traffic:  rows * row_bytes once per 4 query heads of a group + 4 bytes per weight + spans * head_dim * 8 bytes a q head.
// Numerics: float, in ascending token order within a page; pages and spans in ascending order. The same order whatever the
//           rows' home, and whether all tokens are kept or none were chosen: so the bits are the same.
#include "kernels/attention.h"

#include "device/half.h"
#include "device/launch.h"
#include "device/warp.h"

namespace kc::cuda {
namespace {

constexpr int kHeads = 4;  // query heads that meet a row in registers
constexpr int kFinishThreads = 64;

struct Mix {
    kc_layer_view layer;
    Frame frame;
    const float* weights;
    const float* mass;
    int64_t token_stride;
    const int32_t* kept;
    const int32_t* n_kept;
    const uint8_t* const* rows;
    int64_t kept_stride;
    int32_t n_sink;
    int32_t kv_head_begin;
    int32_t n_chunks;  // of kHeads query heads in a group
    int32_t n_spans;
    int32_t mode;
    float* partial;    // [queries, q_heads, spans, head_dim]
    float* span_mass;  // [queries, q_heads, spans]: of the kept tokens
    float* out;
};

// First index of kept[0, n) that is not below `token`.
__device__ __forceinline__ int lower_bound(const int32_t* kept, int n, int token) {
    int low = 0;
    while (n > 0) {
        const int half = n / 2;
        if (kept[low + half] < token) low += half + 1, n -= half + 1;
        else n = half;
    }
    return low;
}

struct Accumulator {
    float sums[kHeads][8];
    __device__ __forceinline__ void add(const uint8_t* piece, const float* weights, int64_t stride, int n_heads) {
        const Halves8 v = load_halves8(piece);
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
            if (h >= n_heads) break;
            const float w = weights[h * stride];
#pragma unroll
            for (int i = 0; i < 8; ++i) sums[h][i] = fmaf(w, v.x[i], sums[h][i]);
        }
    }
};

// The mass of the kept tokens of each page, by the very tree that attention_score sums a page with.
__device__ void mass_of_kept(const Mix& a, const int32_t* kept, int n_kept, int span, int n_pages, int64_t first_row, int n_heads, float* page_mass) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, n_warps = blockDim.x / kWarp;
    for (int p = warp; p < kSpanPages; p += n_warps) {
        const int page = span * kSpanPages + p;
        const int begin = lower_bound(kept, n_kept, page * kPageTokens), end = lower_bound(kept, n_kept, (page + 1) * kPageTokens);
        // Which of this lane's two tokens are kept?
        bool mine[2] = {false, false};
        for (int i = begin; i < end; ++i) {
            const int t = kept[i] % kPageTokens;
            if (t % kWarp == lane) mine[t / kWarp] = true;
        }
        for (int h = 0; h < n_heads; ++h) {
            float sum = 0.f;
            for (int j = 0; j < 2 && page < n_pages; ++j) {
                if (mine[j]) sum += a.weights[(first_row + h) * a.token_stride + page * kPageTokens + j * kWarp + lane];
                else sum += 0.f;
            }
            sum = lanes_sum(sum);
            if (lane == 0) page_mass[h * kSpanPages + p] = sum;
        }
    }
}

__global__ void __launch_bounds__(512) mix_span(Mix a) {
    const int span = blockIdx.x, kv_head = a.kv_head_begin + static_cast<int>(blockIdx.y) / a.n_chunks;
    const int group = a.layer.n_q_heads / a.layer.n_kv_heads, chunk = static_cast<int>(blockIdx.y) % a.n_chunks * kHeads;
    const int n_heads = min(kHeads, group - chunk), head_dim = a.layer.head_dim, lanes = head_dim / 8;
    const kc_query_view query = a.frame.queries[blockIdx.z];
    const kc_sequence_view& sequence = a.frame.sequences[query.sequence];
    if (span * kSpanPages >= sequence.n_pages) return;
    const int64_t first_row = static_cast<int64_t>(blockIdx.z) * a.layer.n_q_heads + kv_head * group + chunk;
    const int64_t list = static_cast<int64_t>(blockIdx.z) * a.layer.n_kv_heads + kv_head;
    const int32_t* kept = a.kept ? a.kept + list * a.kept_stride : nullptr;
    const int n_kept = a.kept ? a.n_kept[list] : 0;

    const int slice = static_cast<int>(threadIdx.x) / lanes, lane = static_cast<int>(threadIdx.x) % lanes, page = span * kSpanPages + slice;
    Accumulator accumulator = {};
    if (page < sequence.n_pages) {
        const float* weights = a.weights + first_row * a.token_stride + page * kPageTokens;
        if (kept == nullptr) {
            const uint8_t* block = f16_block(a.layer.v, sequence, page, kv_head, head_dim) + lane * 16;
            for (int t = 0; t < kPageTokens; ++t) {
                // Rows that nobody sees may hold anything.
                if (!sees(query, a.n_sink, static_cast<int64_t>(sequence.pages[page].position) + t)) continue;
                accumulator.add(block + t * 2 * head_dim, weights + t, a.token_stride, n_heads);
            }
        } else {
            const int64_t offset = in_first_store(a.layer.v, sequence, page) ? 0 : value_offset_bytes(a.layer.exact, head_dim);
            const int end = lower_bound(kept, n_kept, (page + 1) * kPageTokens);
            for (int i = lower_bound(kept, n_kept, page * kPageTokens); i < end; ++i) {
                accumulator.add(a.rows[list * a.kept_stride + i] + offset + lane * 16, weights + kept[i] % kPageTokens, a.token_stride, n_heads);
            }
        }
    }
    float* slices = shared_memory<float>();                          // [pages of a span, head_dim]
    float* page_mass = slices + kSpanPages * head_dim;               // [kHeads, pages of a span]
    const int n_pages = min(kSpanPages, sequence.n_pages - span * kSpanPages);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
        if (h >= n_heads) break;
        __syncthreads();
        for (int i = 0; i < 8; ++i) slices[slice * head_dim + lane * 8 + i] = accumulator.sums[h][i];
        __syncthreads();
        for (int d = threadIdx.x; d < head_dim; d += blockDim.x) {
            float sum = 0.f;
            for (int p = 0; p < n_pages; ++p) sum += slices[p * head_dim + d];
            a.partial[((first_row + h) * a.n_spans + span) * head_dim + d] = sum;
        }
    }
    if (kept == nullptr) return;
    mass_of_kept(a, kept, n_kept, span, sequence.n_pages, first_row, n_heads, page_mass);
    __syncthreads();
    for (int h = threadIdx.x; h < n_heads; h += blockDim.x) {
        float mass = 0.f;
        for (int p = 0; p < n_pages; ++p) mass += page_mass[h * kSpanPages + p];
        a.span_mass[(first_row + h) * a.n_spans + span] = mass;
    }
}

__global__ void __launch_bounds__(kFinishThreads) finish(Mix a) {
    const int head = a.kv_head_begin * (a.layer.n_q_heads / a.layer.n_kv_heads) + static_cast<int>(blockIdx.x), head_dim = a.layer.head_dim;
    const kc_query_view query = a.frame.queries[blockIdx.y];
    const int n_pages = a.frame.sequences[query.sequence].n_pages;
    const int64_t row = static_cast<int64_t>(blockIdx.y) * a.layer.n_q_heads + head;
    float mass = 0.f;
    if (a.kept == nullptr || a.mode == KC_MIX_EXACT_WEIGHTS) {
        mass = a.mass[row];
    } else {
        for (int s = 0; s * kSpanPages < n_pages; ++s) mass += a.span_mass[row * a.n_spans + s];
    }
    // No weight at all, so nothing to say: attention_score counted why.
    const float inverse = mass > 0.f ? 1.f / mass : 0.f;
    for (int d = threadIdx.x; d < head_dim; d += kFinishThreads) {
        float sum = 0.f;
        for (int s = 0; s * kSpanPages < n_pages; ++s) sum += a.partial[(row * a.n_spans + s) * head_dim + d];
        a.out[(query.row * static_cast<int64_t>(a.layer.n_q_heads) + head) * head_dim + d] = sum * inverse;
    }
}

}  // namespace

uint64_t attention_mix_scratch_bytes(Context&, const kc_layer_view& layer, int64_t n_queries, int64_t token_stride) {
    return static_cast<uint64_t>(n_queries * layer.n_q_heads * ceil_div(token_stride, kSpanTokens) * (layer.head_dim + 1)) * sizeof(float);
}

void attention_mix(Context& context, const kc_attention_mix_params& params) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    if (params.mode == KC_MIX_SKETCHED) {
        fail(KC_ERR_UNSUPPORTED, "mode is KC_MIX_SKETCHED (%d), which the CUDA backend does not offer; use KC_MIX_RENORMALIZED (%d) or KC_MIX_EXACT_WEIGHTS (%d)",
             KC_MIX_SKETCHED, KC_MIX_RENORMALIZED, KC_MIX_EXACT_WEIGHTS);
    }
    const int group = layer.n_q_heads / layer.n_kv_heads, n_chunks = static_cast<int>(ceil_div(group, kHeads));
    const auto n_spans = static_cast<int32_t>(ceil_div(wave.token_stride, kSpanTokens));
    float* partial = static_cast<float*>(params.scratch);
    float* span_mass = partial + int64_t{wave.n_queries} * layer.n_q_heads * n_spans * layer.head_dim;
    const Mix mix = {layer, context.frames().upload(wave), params.weights, params.mass, wave.token_stride, params.kept, params.n_kept,
                     params.rows, params.kept_stride, wave.n_sink, wave.kv_head_begin, n_chunks, n_spans, params.mode, partial, span_mass, params.out};
    const auto n_heads = static_cast<unsigned>(wave.kv_head_end - wave.kv_head_begin), queries = static_cast<unsigned>(wave.n_queries);
    const auto threads = static_cast<unsigned>(kSpanPages * layer.head_dim / 8);
    const size_t bytes = static_cast<size_t>(kSpanPages) * (static_cast<size_t>(layer.head_dim) + kHeads) * sizeof(float);
    launch(mix_span, dim3(static_cast<unsigned>(n_spans), n_heads * static_cast<unsigned>(n_chunks), queries), threads, bytes, context.stream(), mix);
    launch(finish, dim3(n_heads * static_cast<unsigned>(group), queries), kFinishThreads, 0, context.stream(), mix);
}

}  // namespace kc::cuda
