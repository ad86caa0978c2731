// What the kernels of select_topn share.
#pragma once

#include "kernels/attention.h"

#include "device/launch.h"
#include "device/warp.h"

namespace kc::cuda {

// Ranks: 0 is no candidate, 1 a NaN, above that weights in their own order.
constexpr unsigned kNoCandidate = 0, kNaN = 1;

struct Select {
    kc_layer_view layer;
    Frame frame;
    const float* weights;
    const float* mass;
    int64_t token_stride;
    int64_t kept_stride;
    int32_t n_sink;
    int32_t n_recent;
    int32_t kv_head_begin;
    int32_t select;
    int32_t n_keep;
    int32_t n_keep_max;
    float max_tail;
    float max_error;
    int32_t* kept;
    int32_t* n_kept;
    int32_t* n_selected;
    float* tail;
    float* error;
    int32_t* missed;
};

// What one query and KV head choose from.
struct Candidates {
    const float* weights;  // [group, token_stride]
    const float* mass;     // [group]
    int64_t token_stride;
    int group;
    int n_tokens;  // of the view, a multiple of 64
    int n_visible;
    int first;  // candidates are tokens [first, last), sinks before them, recent ones behind
    int last;

    __device__ static Candidates of(const Select& a, const kc_query_view& query, int64_t list) {
        const int group = a.layer.n_q_heads / a.layer.n_kv_heads, n_sink = min(a.n_sink, query.n_visible);
        return {a.weights + list * group * a.token_stride,
                a.mass + list * group,
                a.token_stride,
                group,
                a.frame.sequences[query.sequence].n_pages * kPageTokens,
                query.n_visible,
                n_sink,
                max(n_sink, query.n_visible - a.n_recent)};
    }
    __device__ float factor(int h) const { return mass[h] > 0.f ? 1.f / mass[h] : 0.f; }
    // The rank of token i by the summed weights of heads [head, head + n_heads).
    __device__ unsigned rank(int i, int head, int n_heads) const {
        if (i < first || i >= last) return kNoCandidate;
        float sum = 0.f;
        for (int h = head; h < head + n_heads; ++h) sum = fmaf(weights[h * token_stride + i], factor(h), sum);
        return sum >= 0.f ? __float_as_uint(sum + 0.f) | 0x80000000u : kNaN;
    }
};

// The n_keep best by the group's weight, where no bound may ask for more.
void select_best(Context& context, const Select& select, int64_t n_queries, int64_t n_heads, void* scratch);
uint64_t select_best_scratch_bytes(int64_t n_lists, int64_t token_stride);

}  // namespace kc::cuda
