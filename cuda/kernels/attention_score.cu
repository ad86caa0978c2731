// Purpose:  q . K over every stored key of a wave, then the weights exp(s - reference) and their mass.
// Shapes:   q [n_rows, n_q_heads, head_dim], K pages [64, head_dim] to weights [n_queries, n_q_heads, token_stride].
// Mapping:  score: a block per (span of 1024 tokens, KV head, query); lanes share a key and hold 8 of its dimensions
//           each, or 32 where it has 4 bits or fewer, so a warp reads some 512 adjacent bytes; all query heads of the
//           group meet the key in registers. weigh: a block per (span, q head, query), a warp per page. merge: a warp
//           per (q head, query).
// Traffic:  bytes of K once + n_q_heads * tokens * 4 bytes of scores, three times.
// Numerics: float. Coded keys: the query is rotated in float and meets integers; the centre adds q . centre. Keys below
//           q8 meet a query that is rounded to integers of 8 bits, as on every backend, four products at a time: sums
//           of them, below 2^24, are exact in any order, as floats too. Sums by pages of 64 in a fixed tree, pages and
//           spans in ascending order.
#include "kernels/attention.h"

#include "device/codec.h"
#include "device/launch.h"

namespace kc::cuda {
namespace {

constexpr int kScoreThreads = 256;
constexpr int kWeighThreads = 256;

// What one span of one query head leaves behind, [query, q_head, span].
struct SpanScore {
    float max;
    float mass;
    int32_t n_nonfinite;
};

// Keys below q8 meet a query of integers. So few bytes come in so fast that products and shuffles would hold them up: a
// lane takes more of them.
__host__ __device__ constexpr bool is_rounded(int codec) { return codec != KC_CODEC_F16 && codec != KC_CODEC_Q8; }
// Pieces of 8 dimensions that a lane holds, and lanes that share a key, a power of two.
__host__ __device__ constexpr int pieces_of(int codec) { return is_rounded(codec) ? 4 : 1; }
__host__ __device__ inline int lanes_of(int codec, int head_dim) {
    int lanes = 1;
    while (lanes * pieces_of(codec) * 8 < head_dim) lanes *= 2;
    return lanes;
}

struct Score {
    kc_layer_view layer;
    Frame frame;
    const float* q;
    int64_t token_stride;
    int32_t n_sink;
    int32_t n_recent;
    int32_t kv_head_begin;
    int32_t n_spans;
    SpanScore* spans;
    float* weights;
    float* reference;
    float* mass;
    int32_t* n_nonfinite;
};

// The query heads of a group in shared memory, [group, padded] and padded with zeros; for coded keys a second time
// rotated, in units of `step`, and the dot product of each with the centre. `step` and `centred` are scaled as scores.
struct Queries {
    float* plain;
    float* rotated;
    float* step;     // [group]
    float* centred;  // [group]
    int8_t* bytes;   // [group, padded]: rotated, where it was rounded
    int padded;
    __device__ Queries(int group, int padded_dim)
        : plain(shared_memory<float>()),
          rotated(plain + group * padded_dim),
          step(rotated + group * padded_dim),
          centred(step + group),
          bytes(reinterpret_cast<int8_t*>(centred + group)),
          padded(padded_dim) {}
};
size_t queries_bytes(int group, int head_dim, int32_t codec) {
    const auto padded = static_cast<size_t>(lanes_of(codec, head_dim) * pieces_of(codec) * 8);
    size_t n_bytes = padded * sizeof(float);
    if (codec != KC_CODEC_F16) n_bytes += n_bytes + 2 * sizeof(float);
    if (is_rounded(codec)) n_bytes += padded;
    return static_cast<size_t>(group) * n_bytes;
}

// Rounds a rotated query, by one warp, to integers of 8 bits, the largest becoming 127; returns their unit. One that is
// not finite is left to its dot product with the centre, which no score survives.
__device__ float round_query(const float* rotated, int8_t* bytes, int head_dim, int padded) {
    constexpr float kMost = 127.f;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float largest = 0.f;
    for (int d = lane; d < head_dim; d += kWarp) largest = fmaxf(largest, fabsf(rotated[d]));
    const float step = lanes_max(largest) / kMost;
    for (int d = lane; d < padded; d += kWarp) {
        const bool counts = d < head_dim && step > 0.f;
        bytes[d] = static_cast<int8_t>(counts ? rintf(fminf(kMost, fmaxf(-kMost, rotated[d] / step))) : 0.f);
    }
    return step;
}

template <int kCodec>
__device__ void rotate_queries(const Score& a, const kc_sequence_view& sequence, int kv_head, int group,
                               const Queries& q) {
    const int head_dim = a.layer.head_dim, lane = static_cast<int>(threadIdx.x) % kWarp;
    for (int i = threadIdx.x; i < group * q.padded; i += kScoreThreads) q.rotated[i] = q.plain[i];
    __syncthreads();
    const bool has_centre = sequence.first_page >= 0;
    for (int h = static_cast<int>(threadIdx.x) / kWarp; h < group; h += kScoreThreads / kWarp) {
        rotate<WarpTeam>(q.rotated + h * q.padded, head_dim);
        float dot = 0.f;
        const float* centre = has_centre ? centre_of(a.layer.k, sequence, kv_head, head_dim) : nullptr;
        for (int d = lane; d < head_dim && has_centre; d += kWarp)
            dot = fmaf(q.rotated[h * q.padded + d], centre[d], dot);
        dot = lanes_sum(dot);
        const float step = kCodec == KC_CODEC_Q8
                               ? 1.f
                               : round_query(q.rotated + h * q.padded, q.bytes + h * q.padded, head_dim, q.padded);
        if (lane == 0) {
            q.step[h] = step * a.layer.scale;
            q.centred[h] = dot * a.layer.scale;
        }
    }
    __syncthreads();
}

__device__ __forceinline__ float dot8(const float* q, const Halves8& key) {
    const float4 low = reinterpret_cast<const float4*>(q)[0], high = reinterpret_cast<const float4*>(q)[1];
    float dot = low.x * key.x[0];
    dot = fmaf(low.y, key.x[1], dot);
    dot = fmaf(low.z, key.x[2], dot);
    dot = fmaf(low.w, key.x[3], dot);
    dot = fmaf(high.x, key.x[4], dot);
    dot = fmaf(high.y, key.x[5], dot);
    dot = fmaf(high.z, key.x[6], dot);
    return fmaf(high.w, key.x[7], dot);
}

template <int kCodec>
__global__ void __launch_bounds__(kScoreThreads) score_span(Score a) {
    const int span = blockIdx.x, kv_head = a.kv_head_begin + static_cast<int>(blockIdx.y);
    const kc_query_view query = a.frame.queries[blockIdx.z];
    const kc_sequence_view& sequence = a.frame.sequences[query.sequence];
    const int n_tokens = sequence.n_pages * kPageTokens, head_dim = a.layer.head_dim;
    if (span * kSpanTokens >= n_tokens) return;
    const int group = a.layer.n_q_heads / a.layer.n_kv_heads, first_head = kv_head * group;
    const int64_t first_row = static_cast<int64_t>(blockIdx.z) * a.layer.n_q_heads + first_head;
    constexpr bool kCoded = kCodec != KC_CODEC_F16, kRounded = is_rounded(kCodec);
    constexpr int kPieces = pieces_of(kCodec);

    const int lanes = lanes_of(kCodec, head_dim);
    const Queries q(group, lanes * kPieces * 8);
    for (int i = threadIdx.x; i < group * q.padded; i += kScoreThreads) {
        const int d = i % q.padded;
        q.plain[i] =
            d < head_dim
                ? a.q[(query.row * static_cast<int64_t>(a.layer.n_q_heads) + first_head + i / q.padded) * head_dim + d]
                : 0.f;
    }
    __syncthreads();
    if constexpr (kCoded) rotate_queries<kCodec>(a, sequence, kv_head, group, q);

    const int lane = static_cast<int>(threadIdx.x) % lanes, rows_per_pass = kScoreThreads / lanes;
    const int end = min(n_tokens, (span + 1) * kSpanTokens);
    // Every pass has all threads, whatever the tokens: lanes meet in shuffles.
    for (int base = span * kSpanTokens; base < end; base += rows_per_pass) {
        const int token = base + static_cast<int>(threadIdx.x) / lanes, t = token % kPageTokens;
        const bool inside = token < end;
        const int page = inside ? token / kPageTokens : 0;
        const int64_t position = static_cast<int64_t>(sequence.pages[page].position) + t;
        const bool seen = inside && sees(query, a.n_sink, position);
        Halves8 key = {};
        uint2 levels[kPieces] = {};
        const float* against = q.plain;
        const uint8_t* plain = nullptr;
        float row_scale = 1.f;
        bool centred = false;
        if (seen && lane * kPieces * 8 < head_dim) {
            if (!kCoded) {
                plain = store_block(a.layer.k, sequence, page, kv_head, head_dim) + t * 2 * head_dim;
            } else if (in_first_store(a.layer.k, sequence, page)) {
                plain = first_block(a.layer.k, sequence, kv_head, head_dim) + t * 2 * head_dim;
            } else if (a.layer.exact.base != nullptr && a.layer.exact.has_k &&
                       position >= query.n_visible - a.n_recent && sequence.pages[page].exact >= 0) {
                plain = exact_rows(a.layer.exact, sequence.pages[page].exact, kv_head) + t * a.layer.exact.row_bytes;
            }
            if (plain != nullptr) {
                if constexpr (!kRounded) key = load_halves8(plain + lane * 16);
            } else if constexpr (kCoded) {
                const uint8_t* block = store_block(a.layer.k, sequence, page, kv_head, head_dim);
                const uint8_t* row = block + t * packed_row_bytes(kCodec, head_dim);
                if constexpr (kRounded) {
#pragma unroll
                    for (int p = 0; p < kPieces; ++p) {
                        const int piece = lane * kPieces + p;
                        if (piece * 8 < head_dim) levels[p] = load_bytes8<kCodec>(row, piece, head_dim);
                    }
                } else {
                    key = load_levels8<kCodec>(row, lane, head_dim);
                }
                row_scale = from_half(block_scales(block, kCodec, head_dim)[t]);
                against = q.rotated;
                centred = true;
            }
        }
        for (int h = 0; h < group; ++h) {
            float dot = 0.f;
            if constexpr (!kRounded) {
                dot = dot8(against + h * q.padded + lane * 8, key);
            } else if (centred) {
                const int2* part = reinterpret_cast<const int2*>(q.bytes + h * q.padded + lane * kPieces * 8);
                int sum = 0;
#pragma unroll
                for (int p = 0; p < kPieces; ++p) {
                    sum = __dp4a(static_cast<int>(levels[p].x), part[p].x, sum);
                    sum = __dp4a(static_cast<int>(levels[p].y), part[p].y, sum);
                }
                dot = static_cast<float>(sum);
            } else if (plain != nullptr) {
                // Few are: they need not stay in registers.
                for (int d = lane * kPieces * 8; d < min(head_dim, (lane + 1) * kPieces * 8); d += 8)
                    dot += dot8(q.plain + h * q.padded + d, load_halves8(plain + 2 * d));
            }
            dot = lanes_sum(dot, lanes);
            if (!inside || lane != 0) continue;
            const float score = centred ? fmaf(dot * row_scale, q.step[h], q.centred[h]) : dot * a.layer.scale;
            // NaN marks a score that does not count but is counted; minus infinity one that is not seen.
            a.weights[(first_row + h) * a.token_stride + token] = !seen ? -INFINITY : isfinite(score) ? score : NAN;
        }
    }
}

// The largest score of every span, and how many do not count.
__global__ void __launch_bounds__(kWeighThreads) find_max(Score a) {
    const int span = blockIdx.x,
              head = a.kv_head_begin * (a.layer.n_q_heads / a.layer.n_kv_heads) + static_cast<int>(blockIdx.y);
    const int n_tokens = a.frame.sequences[a.frame.queries[blockIdx.z].sequence].n_pages * kPageTokens;
    if (span * kSpanTokens >= n_tokens) return;
    const int64_t row = static_cast<int64_t>(blockIdx.z) * a.layer.n_q_heads + head;
    const float* scores = a.weights + row * a.token_stride;
    const int end = min(n_tokens, (span + 1) * kSpanTokens);
    float largest = -INFINITY;
    int n_odd = 0;
    for (int i = span * kSpanTokens + static_cast<int>(threadIdx.x); i < end; i += kWeighThreads) {
        const float s = scores[i];
        largest = s > largest ? s : largest;
        n_odd += isnan(s) ? 1 : 0;
    }
    largest = block_max(largest, shared_memory<float>());
    n_odd = block_sum(n_odd, shared_memory<int>());
    if (threadIdx.x == 0) a.spans[row * a.n_spans + span] = {largest, 0.f, n_odd};
}

__global__ void __launch_bounds__(kWeighThreads) weigh_span(Score a, float* span_mass) {
    const int span = blockIdx.x,
              head = a.kv_head_begin * (a.layer.n_q_heads / a.layer.n_kv_heads) + static_cast<int>(blockIdx.y);
    const int n_pages = a.frame.sequences[a.frame.queries[blockIdx.z].sequence].n_pages;
    if (span * kSpanPages >= n_pages) return;
    const int64_t row = static_cast<int64_t>(blockIdx.z) * a.layer.n_q_heads + head;
    float largest = -INFINITY;
    for (int s = threadIdx.x; s * kSpanPages < n_pages; s += kWeighThreads) {
        const float m = a.spans[row * a.n_spans + s].max;
        largest = m > largest ? m : largest;
    }
    largest = block_max(largest, shared_memory<float>());
    // Where nothing counts, every weight is exp(-infinity).
    if (largest == -INFINITY) largest = 0.f;
    float* sums = shared_memory<float>(32 * sizeof(float));  // [pages of a span]
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    for (int p = warp; p < kSpanPages; p += kWeighThreads / kWarp) {
        float sum = 0.f;
        if (span * kSpanPages + p < n_pages) {
            float* w = a.weights + row * a.token_stride + (span * kSpanPages + p) * kPageTokens;
            for (int t = lane; t < kPageTokens; t += kWarp) {
                const float weight = isnan(w[t]) ? 0.f : expf(w[t] - largest);
                w[t] = weight;
                sum += weight;
            }
        }
        sum = lanes_sum(sum);
        if (lane == 0) sums[p] = sum;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    float mass = 0.f;
    for (int p = 0; p < kSpanPages && span * kSpanPages + p < n_pages; ++p) mass += sums[p];
    span_mass[row * a.n_spans + span] = mass;
}

__global__ void __launch_bounds__(kWarp) merge_spans(Score a, const float* span_mass) {
    const int head = a.kv_head_begin * (a.layer.n_q_heads / a.layer.n_kv_heads) + static_cast<int>(blockIdx.x);
    const int n_pages = a.frame.sequences[a.frame.queries[blockIdx.y].sequence].n_pages;
    const int64_t row = static_cast<int64_t>(blockIdx.y) * a.layer.n_q_heads + head;
    const SpanScore* spans = a.spans + row * a.n_spans;
    float largest = -INFINITY;
    int n_odd = 0;
    for (int s = threadIdx.x; s * kSpanPages < n_pages; s += kWarp) {
        largest = spans[s].max > largest ? spans[s].max : largest;
        n_odd += spans[s].n_nonfinite;
    }
    largest = lanes_max(largest);
    n_odd = lanes_sum(n_odd);
    if (threadIdx.x != 0) return;
    float mass = 0.f;
    for (int s = 0; s * kSpanPages < n_pages; ++s) mass += span_mass[row * a.n_spans + s];
    a.reference[row] = largest == -INFINITY ? 0.f : largest;
    a.mass[row] = mass;
    a.n_nonfinite[row] = n_odd;
}

}  // namespace

uint64_t attention_score_scratch_bytes(Context&, const kc_layer_view& layer, int64_t n_queries, int64_t token_stride) {
    const int64_t n = n_queries * layer.n_q_heads * ceil_div(token_stride, kSpanTokens);
    return static_cast<uint64_t>(n) * (sizeof(SpanScore) + sizeof(float));
}

void attention_score(Context& context, const kc_attention_score_params& params) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    const auto n_spans = static_cast<int32_t>(ceil_div(wave.token_stride, kSpanTokens));
    const int group = layer.n_q_heads / layer.n_kv_heads, n_heads = wave.kv_head_end - wave.kv_head_begin;
    auto* spans = static_cast<SpanScore*>(params.scratch);
    float* span_mass = reinterpret_cast<float*>(spans + int64_t{wave.n_queries} * layer.n_q_heads * n_spans);
    const Score score = {layer,
                         context.frames().upload(wave),
                         wave.q,
                         wave.token_stride,
                         wave.n_sink,
                         wave.n_recent,
                         wave.kv_head_begin,
                         n_spans,
                         spans,
                         params.weights,
                         params.reference,
                         params.mass,
                         params.n_nonfinite};
    const auto x = static_cast<unsigned>(n_spans), z = static_cast<unsigned>(wave.n_queries);
    const auto kv_heads = static_cast<unsigned>(n_heads), q_heads = static_cast<unsigned>(n_heads * group);
    const size_t bytes = queries_bytes(group, layer.head_dim, layer.k.codec);
    for_codec(layer.k.codec, [&](auto codec) {
        launch(score_span<decltype(codec)::value>, dim3(x, kv_heads, z), kScoreThreads, bytes, context.stream(), score);
    });
    launch(find_max, dim3(x, q_heads, z), kWeighThreads, 32 * sizeof(float), context.stream(), score);
    launch(weigh_span, dim3(x, q_heads, z), kWeighThreads, (32 + kSpanPages) * sizeof(float), context.stream(), score,
           span_mass);
    launch(merge_spans, dim3(q_heads, z), kWarp, 0, context.stream(), score, static_cast<const float*>(span_mass));
}

}  // namespace kc::cuda
