// Purpose:  per query and KV head the tokens that count exactly: sinks, recent ones, the n_keep best, and more until
//           the bounds hold. Without a bound and by the group's weight, the kernels of select_best.cu choose.
// Shapes:   weights [n_queries, n_q_heads, token_stride] to kept [n_queries, n_kv_heads, kept_stride], ascending.
// Mapping:  a block per (query, KV head). The n best of any number of candidates by radix selection: four histograms
//           of 8 bits find the n-th largest weight and how many of its equals (lowest index first) belong.
// Traffic:  group * tokens * 4 bytes of weights twice + tokens * 5 bytes of ranks and marks, six times; all but the
//           first reading of it from the second-level cache.
// Numerics: ranks are exact; the group's weight is one chain of fused multiply-adds over its heads; tails are summed
//           in double in a fixed order.
#include "kernels/select_topn.h"

#include <algorithm>

namespace kc::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBuckets = 256;
constexpr uint8_t kKept = 1, kChosen = 2;

struct Lists {
    Select a;
    unsigned* ranks;  // [lists, token_stride]
    uint8_t* marks;   // [lists, token_stride]
};

struct Shared {
    double sums[32];
    int counts[32];
    int buckets[kBuckets];
    unsigned threshold;
    int n_equal;
};

__device__ __forceinline__ Shared& shared() { return *shared_memory<Shared>(); }

// How many earlier threads of the block have the flag, in thread order, and how many have it in all.
__device__ int count_before(bool flag, int* total) {
    const unsigned ballot = __ballot_sync(kAllLanes, flag);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    __syncthreads();
    if (lane == 0) shared().counts[warp] = __popc(ballot);
    __syncthreads();
    int before = __popc(ballot & ((1u << lane) - 1));
    *total = 0;
    for (int w = 0; w < kWarps; ++w) {
        if (w < warp) before += shared().counts[w];
        *total += shared().counts[w];
    }
    return before;
}

// One list; all threads of the block hold the same numbers.
struct List : Candidates {
    const Select& a;
    unsigned* ranks;
    uint8_t* marks;

    // Ranks of the summed weights of heads [head, head + n_heads); what is kept already is no candidate.
    __device__ void rank(int head, int n_heads) const {
        __syncthreads();
        for (int i = threadIdx.x; i < n_tokens; i += kThreads) {
            ranks[i] = marks[i] == kKept ? kNoCandidate : Candidates::rank(i, head, n_heads);
        }
        __syncthreads();
    }

    // The n-th largest rank, and how many candidates of just that rank are among the n best; all, where there are
    // fewer.
    __device__ void find_threshold(int n) const {
        unsigned prefix = 0;
        int wanted = n;
        for (int shift = 24; shift >= 0; shift -= 8) {
            for (int b = threadIdx.x; b < kBuckets; b += kThreads) shared().buckets[b] = 0;
            __syncthreads();
            for (int i = threadIdx.x; i < n_tokens; i += kThreads) {
                const unsigned rank = ranks[i];
                if (rank != kNoCandidate && (shift == 24 || rank >> (shift + 8) == prefix))
                    atomicAdd(&shared().buckets[rank >> shift & 255], 1);
            }
            __syncthreads();
            if (threadIdx.x == 0) {
                int bucket = kBuckets - 1, left = wanted;
                while (bucket > 0 && shared().buckets[bucket] < left) left -= shared().buckets[bucket--];
                shared().threshold = prefix << 8 | static_cast<unsigned>(bucket);
                shared().n_equal = left;
            }
            __syncthreads();
            prefix = shared().threshold;
            wanted = shared().n_equal;
            __syncthreads();
        }
        if (threadIdx.x == 0) {
            // Fewer candidates than n: the descent ended below the lowest rank, and all of them belong.
            if (prefix == kNoCandidate) shared().threshold = kNaN, shared().n_equal = n;
        }
        __syncthreads();
    }

    // Marks the n best candidates by the ranks.
    __device__ void mark_best(int n, uint8_t mark) const {
        if (n <= 0) return;
        find_threshold(n);
        const unsigned threshold = shared().threshold;
        const int n_equal = shared().n_equal;
        int equal_before = 0;
        for (int base = 0; base < n_tokens; base += kThreads) {
            const int i = base + static_cast<int>(threadIdx.x);
            const unsigned rank = i < n_tokens ? ranks[i] : kNoCandidate;
            int n_here;
            const int before = count_before(rank == threshold, &n_here);
            if (rank > threshold || (rank == threshold && equal_before + before < n_equal)) marks[i] = mark;
            equal_before += n_here;
        }
        __syncthreads();
    }

    // The sums over what is not marked; returns whether every head keeps the bounds.
    __device__ bool measure(float* tail, float* error) const {
        bool held = true;
        __syncthreads();
        for (int h = 0; h < group; ++h) {
            double sum = 0., squares = 0.;
            for (int i = threadIdx.x; i < n_tokens; i += kThreads) {
                const double w = marks[i] != 0 ? 0. : static_cast<double>(weights[h * a.token_stride + i]);
                sum += w;
                squares += w * w;
            }
            sum = block_sum(sum, shared().sums) * factor(h);
            squares = block_sum(squares, shared().sums) * factor(h) * factor(h);
            const float t = static_cast<float>(sum), e = static_cast<float>(sqrt(squares));
            if (a.max_tail > 0.f && !(t <= a.max_tail)) held = false;
            if (a.max_error > 0.f && !(e <= a.max_error)) held = false;
            if (threadIdx.x == 0) tail[h] = t, error[h] = e;
        }
        return held;
    }

    __device__ void unmark(uint8_t mark) const {
        for (int i = threadIdx.x; i < n_tokens; i += kThreads) {
            if (marks[i] == mark) marks[i] = 0;
        }
        __syncthreads();
    }

    // The fewest further candidates, in the order of the group's weight, that make the bounds hold: what lies outside
    // only shrinks as more are kept, so halving finds the first number. Returns whether the bounds hold.
    __device__ bool grow(int n_more, float* tail, float* error) const {
        if (measure(tail, error)) return true;
        int n_candidates = 0;
        rank(0, group);
        for (int base = 0; base < n_tokens; base += kThreads) {
            const int i = base + static_cast<int>(threadIdx.x);
            int n_here;
            count_before(i < n_tokens && ranks[i] != kNoCandidate, &n_here);
            n_candidates += n_here;
        }
        int high = n_more < n_candidates ? n_more : n_candidates;
        if (high <= 0) return false;
        mark_best(high, kChosen);
        if (!measure(tail, error)) return false;
        for (int low = 0; high - low > 1;) {  // `high` holds, `low` does not
            const int middle = low + (high - low) / 2;
            unmark(kChosen);
            mark_best(middle, kChosen);
            if (measure(tail, error))
                high = middle;
            else
                low = middle;
        }
        unmark(kChosen);
        mark_best(high, kChosen);
        return measure(tail, error);
    }
};

__global__ void __launch_bounds__(kThreads) select_list(Lists lists) {
    const Select& a = lists.a;
    const kc_query_view query = a.frame.queries[blockIdx.y];
    const int64_t at = static_cast<int64_t>(blockIdx.y) * a.layer.n_kv_heads + a.kv_head_begin + blockIdx.x;
    const List list = {Candidates::of(a, query, at), a, lists.ranks + at * a.token_stride,
                       lists.marks + at * a.token_stride};
    const int group = list.group, n_visible = list.n_visible, n_sink = list.first, recent = list.last;
    const int64_t head = at * group;
    for (int i = threadIdx.x; i < list.n_tokens; i += kThreads) list.marks[i] = 0;
    const bool each = a.select == KC_SELECT_UNION;
    for (int h = 0; h < (each ? group : 1); ++h) {
        // Each head chooses as if it were alone: what another head chose is marked, but still a candidate.
        list.rank(h, each ? 1 : group);
        list.mark_best(a.n_keep, kChosen);
    }
    int n_selected = 0;
    for (int base = 0; base < list.n_tokens; base += kThreads) {
        const int i = base + static_cast<int>(threadIdx.x);
        int n_here;
        const bool chosen = i < list.n_tokens && list.marks[i] == kChosen;
        count_before(chosen, &n_here);
        n_selected += n_here;
        if (chosen || (i < n_sink) || (i >= recent && i < n_visible)) list.marks[i] = kKept;
    }
    const bool held = a.tail == nullptr || list.grow(a.n_keep_max - n_selected, a.tail + head, a.error + head);

    int n_kept = 0;
    __syncthreads();
    for (int base = 0; base < n_visible; base += kThreads) {
        const int i = base + static_cast<int>(threadIdx.x);
        const bool kept = i < n_visible && list.marks[i] != 0;
        int n_here;
        const int before = count_before(kept, &n_here);
        if (kept) a.kept[at * a.kept_stride + n_kept + before] = i;
        n_kept += n_here;
    }
    if (threadIdx.x != 0) return;
    a.n_kept[at] = n_kept;
    a.n_selected[at] = n_kept - (n_sink + n_visible - recent);
    a.missed[at] = held ? 0 : 1;
}

}  // namespace

uint64_t select_topn_scratch_bytes(Context&, const kc_layer_view& layer, int64_t n_queries, int64_t token_stride) {
    const int64_t n_lists = n_queries * layer.n_kv_heads;
    return std::max(static_cast<uint64_t>(n_lists * token_stride) * (sizeof(unsigned) + 1),
                    select_best_scratch_bytes(n_lists, token_stride));
}

void select_topn(Context& context, const kc_select_topn_params& params) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    const Select select = {layer,
                           context.frames().upload(wave),
                           params.weights,
                           params.mass,
                           wave.token_stride,
                           params.kept_stride,
                           wave.n_sink,
                           wave.n_recent,
                           wave.kv_head_begin,
                           params.select,
                           params.n_keep,
                           params.n_keep_max,
                           params.max_tail,
                           params.max_error,
                           params.kept,
                           params.n_kept,
                           params.n_selected,
                           params.tail,
                           params.error,
                           params.missed};
    const int64_t n_heads = wave.kv_head_end - wave.kv_head_begin;
    if (params.select == KC_SELECT_GROUP && params.tail == nullptr) {
        select_best(context, select, wave.n_queries, n_heads, params.scratch);
        return;
    }
    auto* ranks = static_cast<unsigned*>(params.scratch);
    auto* marks = reinterpret_cast<uint8_t*>(ranks + int64_t{wave.n_queries} * layer.n_kv_heads * wave.token_stride);
    launch(select_list, dim3(static_cast<unsigned>(n_heads), static_cast<unsigned>(wave.n_queries)), kThreads,
           sizeof(Shared), context.stream(), Lists{select, ranks, marks});
}

}  // namespace kc::cuda
