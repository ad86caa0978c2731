// Purpose:  weights times values: of every visible token, or of the kept ones from wherever their exact rows lie, the
//           others through the V store where the mode says so.
// Shapes:   weights [n_queries, n_q_heads, token_stride], rows [n_queries, n_kv_heads, kept_stride] to
//           out [n_rows, n_q_heads, head_dim].
// Mapping:  mix: a block per (span of 16 pages, KV head and up to 4 of its query heads, query); head_dim / 8 lanes per
//           page, so a lane adds up 8 dimensions of a page, token by token. finish: a block per (q head, query), a
//           thread per dimension.
// Traffic:  rows * row_bytes once per 4 query heads of a group + 4 bytes per weight + spans * head_dim * 16 bytes a
//           q head.
// Numerics: float, in ascending token order within a page; pages and spans in ascending order. The same order whatever
//           the rows' home, and whether all tokens are kept or none were chosen: so the bits are the same.
#include "kernels/attention.h"

#include "device/codec.h"
#include "device/kept.h"
#include "device/launch.h"

namespace kc::cuda {
namespace {

constexpr int kHeads = 4;  // query heads that meet a row in registers
constexpr int kFinishThreads = 64;
constexpr int kRescoreThreads = 256;

// What a span leaves behind beside its sums: masses of the tokens that count (kept), of the rotated rows, and of the
// others.
struct SpanMass {
    float mass;
    float rotated;
    float tail;
    float squares;
};

struct Mix {
    kc_layer_view layer;
    Frame frame;
    const float* q;
    float* weights;
    const float* reference;
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
    float* partial;       // [queries, q_heads, spans, 2, head_dim]: of rows as they are, and of rotated rows
    SpanMass* span_mass;  // [queries, q_heads, spans]
    float* out;
    float* tail;
    float* error;
};

struct Sums {
    float plain[kHeads][8];
    float rotated[kHeads][8];
    float rotated_mass[kHeads];

    __device__ __forceinline__ void add_plain(const Halves8& v, const float* weights, int64_t stride, int n_heads) {
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
            if (h >= n_heads) break;
            const float w = weights[h * stride];
#pragma unroll
            for (int i = 0; i < 8; ++i) plain[h][i] = fmaf(w, v.x[i], plain[h][i]);
        }
    }
    __device__ __forceinline__ void add_rotated(const Halves8& levels, float scale, const float* weights,
                                                int64_t stride, int n_heads) {
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
            if (h >= n_heads) break;
            const float w = weights[h * stride], scaled = w * scale;
            rotated_mass[h] += w;
#pragma unroll
            for (int i = 0; i < 8; ++i) rotated[h][i] = fmaf(scaled, levels.x[i], rotated[h][i]);
        }
    }
};

// The masses of one page and head by a warp, by the very tree that attention_score sums a page with.
__device__ __forceinline__ SpanMass page_mass(const float* weights, unsigned long long kept,
                                              unsigned long long counted) {
    float mass = 0.f, tail = 0.f, squares = 0.f;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    for (int t = lane; t < kPageTokens; t += kWarp) {
        const float w = weights[t];
        mass += counted >> t & 1ull ? w : 0.f;
        const float outside = kept >> t & 1ull ? 0.f : w;
        tail += outside;
        squares = fmaf(outside, outside, squares);
    }
    return {lanes_sum(mass), 0.f, lanes_sum(tail), lanes_sum(squares)};
}

template <int kCodec>
__global__ void __launch_bounds__(512) mix_span(Mix a) {
    const int span = blockIdx.x, kv_head = a.kv_head_begin + static_cast<int>(blockIdx.y) / a.n_chunks;
    const int group = a.layer.n_q_heads / a.layer.n_kv_heads,
              chunk = static_cast<int>(blockIdx.y) % a.n_chunks * kHeads;
    const int n_heads = min(kHeads, group - chunk), head_dim = a.layer.head_dim, lanes = head_dim / 8;
    const kc_query_view query = a.frame.queries[blockIdx.z];
    const kc_sequence_view& sequence = a.frame.sequences[query.sequence];
    if (span * kSpanPages >= sequence.n_pages) return;
    const int64_t first_row = static_cast<int64_t>(blockIdx.z) * a.layer.n_q_heads + kv_head * group + chunk;
    const int64_t list = static_cast<int64_t>(blockIdx.z) * a.layer.n_kv_heads + kv_head;
    const int32_t* kept = a.kept ? a.kept + list * a.kept_stride : nullptr;
    const int n_kept = a.kept ? a.n_kept[list] : 0;
    const bool sketched = a.mode == KC_MIX_SKETCHED;

    const int slice = static_cast<int>(threadIdx.x) / lanes, lane = static_cast<int>(threadIdx.x) % lanes,
              page = span * kSpanPages + slice;
    Sums sums = {};
    if (page < sequence.n_pages) {
        const float* weights = a.weights + first_row * a.token_stride + page * kPageTokens;
        unsigned long long exact = 0;
        const bool first = in_first_store(a.layer.v, sequence, page);
        if (kept != nullptr) {
            const int begin = lower_bound(kept, n_kept, page * kPageTokens),
                      end = lower_bound(kept, n_kept, (page + 1) * kPageTokens);
            const bool coded = !first && a.layer.exact.v_codec == KC_CODEC_Q8;
            const int64_t offset = first ? 0 : value_offset_bytes(a.layer.exact, head_dim);
            for (int i = begin; i < end; ++i) {
                const uint8_t* row = a.rows[list * a.kept_stride + i] + offset;
                const int t = kept[i] % kPageTokens;
                if (coded) {
                    sums.add_rotated(load_levels8<KC_CODEC_Q8>(row, lane, head_dim),
                                     from_half(exact_scales(a.layer.exact, sequence, page, kv_head)[t]), weights + t,
                                     a.token_stride, n_heads);
                } else {
                    sums.add_plain(load_halves8(row + lane * 16), weights + t, a.token_stride, n_heads);
                }
            }
            exact = kept_in_page(kept, begin, end);
        }
        if (kept == nullptr || sketched) {
            const uint8_t* block = first ? first_block(a.layer.v, sequence, kv_head, head_dim)
                                         : store_block(a.layer.v, sequence, page, kv_head, head_dim);
            for (int t = 0; t < kPageTokens; ++t) {
                // Rows that nobody sees may hold anything.
                if (exact >> t & 1ull ||
                    !sees(query, a.n_sink, static_cast<int64_t>(sequence.pages[page].position) + t))
                    continue;
                if (first || kCodec == KC_CODEC_F16) {
                    sums.add_plain(load_halves8(block + t * 2 * head_dim + lane * 16), weights + t, a.token_stride,
                                   n_heads);
                } else if constexpr (kCodec != KC_CODEC_F16) {
                    sums.add_rotated(
                        load_levels8<kCodec>(block + t * packed_row_bytes(kCodec, head_dim), lane, head_dim),
                        from_half(block_scales(block, kCodec, head_dim)[t]), weights + t, a.token_stride, n_heads);
                }
            }
        }
    }
    float* slices = shared_memory<float>();                                              // [pages of a span, head_dim]
    float* rotated_mass = slices + kSpanPages * head_dim;                                // [kHeads, pages of a span]
    SpanMass* masses = reinterpret_cast<SpanMass*>(rotated_mass + kHeads * kSpanPages);  // [kHeads, pages of a span]
    const int n_pages = min(kSpanPages, sequence.n_pages - span * kSpanPages);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
        if (h >= n_heads) break;
        if (lane == 0) rotated_mass[h * kSpanPages + slice] = sums.rotated_mass[h];
        for (int rotated = 0; rotated < 2; ++rotated) {
            __syncthreads();
            for (int i = 0; i < 8; ++i)
                slices[slice * head_dim + lane * 8 + i] = rotated ? sums.rotated[h][i] : sums.plain[h][i];
            __syncthreads();
            for (int d = threadIdx.x; d < head_dim; d += blockDim.x) {
                float sum = 0.f;
                for (int p = 0; p < n_pages; ++p) sum += slices[p * head_dim + d];
                a.partial[(((first_row + h) * a.n_spans + span) * 2 + rotated) * head_dim + d] = sum;
            }
        }
    }
    const int warp = static_cast<int>(threadIdx.x) / kWarp, n_warps = static_cast<int>(blockDim.x) / kWarp;
    for (int p = warp; p < n_pages && kept != nullptr; p += n_warps) {
        const int token = (span * kSpanPages + p) * kPageTokens;
        const unsigned long long exact =
            kept_in_page(kept, lower_bound(kept, n_kept, token), lower_bound(kept, n_kept, token + kPageTokens));
        for (int h = 0; h < n_heads; ++h) {
            const SpanMass mass =
                page_mass(a.weights + (first_row + h) * a.token_stride + token, exact, sketched ? ~0ull : exact);
            if (threadIdx.x % kWarp == 0) masses[h * kSpanPages + p] = mass;
        }
    }
    __syncthreads();
    for (int h = threadIdx.x; h < n_heads; h += blockDim.x) {
        SpanMass total = {};
        for (int p = 0; p < n_pages; ++p) {
            total.rotated += rotated_mass[h * kSpanPages + p];
            if (kept == nullptr) continue;
            const SpanMass& one = masses[h * kSpanPages + p];
            total.mass += one.mass;
            total.tail += one.tail;
            total.squares += one.squares;
        }
        a.span_mass[(first_row + h) * a.n_spans + span] = total;
    }
}

__global__ void __launch_bounds__(kFinishThreads) finish(Mix a) {
    const int head = a.kv_head_begin * (a.layer.n_q_heads / a.layer.n_kv_heads) + static_cast<int>(blockIdx.x),
              head_dim = a.layer.head_dim;
    const kc_query_view query = a.frame.queries[blockIdx.y];
    const kc_sequence_view& sequence = a.frame.sequences[query.sequence];
    const int n_spans = (sequence.n_pages + kSpanPages - 1) / kSpanPages;
    const int64_t row = static_cast<int64_t>(blockIdx.y) * a.layer.n_q_heads + head;
    SpanMass total = {};
    for (int s = 0; s < n_spans; ++s) {
        const SpanMass& one = a.span_mass[row * a.n_spans + s];
        total.mass += one.mass;
        total.rotated += one.rotated;
        total.tail += one.tail;
        total.squares += one.squares;
    }
    const float mass = a.kept == nullptr || a.mode == KC_MIX_EXACT_WEIGHTS ? a.mass[row] : total.mass;
    // No weight at all, so nothing to say: attention_score counted why.
    const float inverse = mass > 0.f ? 1.f / mass : 0.f;
    float* rotated = shared_memory<float>();
    const int kv_head = head / (a.layer.n_q_heads / a.layer.n_kv_heads);
    const bool has_centre = a.layer.v.centre != nullptr && sequence.first_page >= 0;
    const float* centre = has_centre ? centre_of(a.layer.v, sequence, kv_head, head_dim) : nullptr;
    if (has_centre) {
        for (int d = threadIdx.x; d < head_dim; d += kFinishThreads) {
            float sum = 0.f;
            for (int s = 0; s < n_spans; ++s) sum += a.partial[((row * a.n_spans + s) * 2 + 1) * head_dim + d];
            // A short sequence has no centre yet, and no rotated rows.
            rotated[d] = total.rotated > 0.f ? fmaf(total.rotated, centre[d], sum) : sum;
        }
        rotate_back<BlockTeam>(rotated, head_dim);
    }
    for (int d = threadIdx.x; d < head_dim; d += kFinishThreads) {
        float sum = 0.f;
        for (int s = 0; s < n_spans; ++s) sum += a.partial[(row * a.n_spans + s) * 2 * head_dim + d];
        if (has_centre) sum += rotated[d];
        a.out[(query.row * static_cast<int64_t>(a.layer.n_q_heads) + head) * head_dim + d] = sum * inverse;
    }
    if (a.kept == nullptr || threadIdx.x != 0) return;
    // Scoring again changed the mass of all.
    const float all = a.mode == KC_MIX_SKETCHED ? total.mass : a.mass[row], share = all > 0.f ? 1.f / all : 0.f;
    if (a.tail != nullptr) a.tail[row] = total.tail * share;
    if (a.error != nullptr) a.error[row] = sqrtf(total.squares) * share;
}

// New weights for the kept tokens of coded keys, from their exact keys. A score may lie above the maximum of the coded
// ones; should it lie so far above that its weight nears overflow, all new weights are shifted down together: what was
// not shifted with them is then too small to count.
__global__ void __launch_bounds__(kRescoreThreads) rescore(Mix a) {
    constexpr float kHighest = 40.f;
    const int group = a.layer.n_q_heads / a.layer.n_kv_heads,
              head = a.kv_head_begin * group + static_cast<int>(blockIdx.x), kv_head = head / group;
    const kc_query_view query = a.frame.queries[blockIdx.y];
    const kc_sequence_view& sequence = a.frame.sequences[query.sequence];
    const int64_t list = static_cast<int64_t>(blockIdx.y) * a.layer.n_kv_heads + kv_head,
                  row = static_cast<int64_t>(blockIdx.y) * a.layer.n_q_heads + head;
    const int32_t* kept = a.kept + list * a.kept_stride;
    const int n_kept = a.n_kept[list], head_dim = a.layer.head_dim, lane = static_cast<int>(threadIdx.x) % kWarp;
    const float* q = a.q + (query.row * static_cast<int64_t>(a.layer.n_q_heads) + head) * head_dim;
    float* weights = a.weights + row * a.token_stride;
    float highest = 0.f;
    for (int i = static_cast<int>(threadIdx.x) / kWarp; i < n_kept; i += kRescoreThreads / kWarp) {
        if (in_first_store(a.layer.k, sequence, kept[i] / kPageTokens)) continue;  // the same for a whole warp
        const uint16_t* key = reinterpret_cast<const uint16_t*>(a.rows[list * a.kept_stride + i]);
        float dot = 0.f;
        for (int d = lane; d < head_dim; d += kWarp) dot = fmaf(q[d], from_half(key[d]), dot);
        const float score = lanes_sum(dot) * a.layer.scale - a.reference[row];
        if (lane == 0) weights[kept[i]] = isfinite(score) ? score : -INFINITY;
        if (isfinite(score) && score > highest) highest = score;
    }
    highest = block_max(highest, shared_memory<float>());
    const float shift = fmaxf(0.f, highest - kHighest);
    for (int i = threadIdx.x; i < n_kept; i += kRescoreThreads) {
        if (!in_first_store(a.layer.k, sequence, kept[i] / kPageTokens))
            weights[kept[i]] = expf(weights[kept[i]] - shift);
    }
}

}  // namespace

uint64_t attention_mix_scratch_bytes(Context&, const kc_layer_view& layer, int64_t n_queries, int64_t token_stride) {
    const int64_t n = n_queries * layer.n_q_heads * ceil_div(token_stride, kSpanTokens);
    return static_cast<uint64_t>(n) * (2 * static_cast<uint64_t>(layer.head_dim) * sizeof(float) + sizeof(SpanMass));
}

void attention_mix(Context& context, const kc_attention_mix_params& params) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    const int group = layer.n_q_heads / layer.n_kv_heads, n_chunks = static_cast<int>(ceil_div(group, kHeads));
    const auto n_spans = static_cast<int32_t>(ceil_div(wave.token_stride, kSpanTokens));
    float* partial = static_cast<float*>(params.scratch);
    auto* span_mass =
        reinterpret_cast<SpanMass*>(partial + int64_t{wave.n_queries} * layer.n_q_heads * n_spans * 2 * layer.head_dim);
    const Mix mix = {layer,
                     context.frames().upload(wave),
                     wave.q,
                     params.weights,
                     params.reference,
                     params.mass,
                     wave.token_stride,
                     params.kept,
                     params.n_kept,
                     params.rows,
                     params.kept_stride,
                     wave.n_sink,
                     wave.kv_head_begin,
                     n_chunks,
                     n_spans,
                     params.mode,
                     partial,
                     span_mass,
                     params.out,
                     params.tail,
                     params.error};
    const auto n_heads = static_cast<unsigned>(wave.kv_head_end - wave.kv_head_begin),
               queries = static_cast<unsigned>(wave.n_queries);
    const unsigned q_heads = n_heads * static_cast<unsigned>(group);
    if (params.mode == KC_MIX_SKETCHED && params.kept && layer.exact.has_k) {
        launch(rescore, dim3(q_heads, queries), kRescoreThreads, 32 * sizeof(float), context.stream(), mix);
    }
    const auto threads = static_cast<unsigned>(kSpanPages * layer.head_dim / 8);
    const size_t bytes = static_cast<size_t>(kSpanPages) *
                         ((static_cast<size_t>(layer.head_dim) + kHeads) * sizeof(float) + kHeads * sizeof(SpanMass));
    const bool reads_store = !params.kept || params.mode == KC_MIX_SKETCHED;
    for_codec(reads_store ? layer.v.codec : KC_CODEC_F16, [&](auto codec) {
        launch(mix_span<decltype(codec)::value>,
               dim3(static_cast<unsigned>(n_spans), n_heads * static_cast<unsigned>(n_chunks), queries), threads, bytes,
               context.stream(), mix);
    });
    launch(finish, dim3(q_heads, queries), kFinishThreads, static_cast<size_t>(layer.head_dim) * sizeof(float),
           context.stream(), mix);
}

}  // namespace kc::cuda
