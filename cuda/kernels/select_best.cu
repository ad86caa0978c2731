// Purpose:  the n_keep best tokens of a query and KV head by the group's weight, and sinks and recent ones: select_topn
//           where no bound may ask for more.
// Shapes:   weights [n_queries, n_q_heads, token_stride] to kept [n_queries, n_kv_heads, kept_stride], ascending.
// Mapping:  find_best: a block per (part of 4,096 tokens, KV head, query), 16 tokens a thread in registers, leaves the
//           best of the part and few others; merge_best: a block per (KV head, query) takes the best of those.
// Traffic:  group * tokens * 4 bytes of weights, 8 bytes for every token found (1.25 * n_keep a part), tokens / 4 bytes
//           of bits.
// Numerics: ranks are exact: a key is a rank with the token below it, so that no two are equal and ties go to the lower
//           token; the group's weight is one chain of fused multiply-adds over its heads.
#include "kernels/select_topn.h"

namespace kc::cuda {
namespace {

constexpr int kPartTokens = 4096;
constexpr int kFindThreads = 256;
constexpr int kTokensPerThread = kPartTokens / kFindThreads;
constexpr int kMergeThreads = 512;
constexpr int kWordTokens = 32;

using Key = unsigned long long;
constexpr int kTokenBits = 12;  // of a key within a part, below the 32 of the rank

struct Best {
    Select a;
    Key* found;        // [lists, parts, kPartTokens]
    int32_t* n_found;  // [lists, parts]
    unsigned* bits;    // [lists, token_stride / 32]: kept
    int32_t n_parts;
};

struct Shared {
    int counts[2][kMergeThreads / kWarp];
    int n_found;
};
__device__ __forceinline__ Shared& shared() { return *shared_memory<Shared>(); }

// Sums over all threads of a block, round after round. Rounds take turns with two rows, so that one barrier is enough.
struct Rounds {
    int round = 0;

    __device__ int sum(int x) {
        x = lanes_sum(x);
        int* row = shared().counts[round++ % 2];
        if (threadIdx.x % kWarp == 0) row[threadIdx.x / kWarp] = x;
        __syncthreads();
        int total = 0;
        for (unsigned w = 0; w < blockDim.x / kWarp; ++w) total += row[w];
        return total;
    }
};

// A key that at least n reach, and at most n + slack; 0 where there are fewer than n. count(key): how many reach it.
template <class Count>
__device__ Key find_key(int n_bits, int n, int slack, Count count) {
    Key key = 0;
    for (int bit = n_bits - 1; bit >= 0; --bit) {
        const Key higher = key | Key{1} << bit;
        const int n_reach = count(higher);
        if (n_reach < n) continue;
        key = higher;
        if (n_reach <= n + slack) break;
    }
    return key;
}

__global__ void __launch_bounds__(kFindThreads) find_best(Best b) {
    const int thread = static_cast<int>(threadIdx.x), begin = static_cast<int>(blockIdx.x) * kPartTokens;
    const kc_query_view query = b.a.frame.queries[blockIdx.z];
    const int64_t list = static_cast<int64_t>(blockIdx.z) * b.a.layer.n_kv_heads + b.a.kv_head_begin + blockIdx.y;
    const Candidates candidates = Candidates::of(b.a, query, list);
    const int64_t part = list * b.n_parts + blockIdx.x;
    if (begin >= candidates.n_tokens || b.a.n_keep <= 0) {
        if (thread == 0) b.n_found[part] = 0;
        return;
    }
    Key keys[kTokensPerThread];
#pragma unroll
    for (int k = 0; k < kTokensPerThread; ++k) {
        const int place = k * kFindThreads + thread;
        const Key rank = candidates.rank(begin + place, 0, candidates.group);
        keys[k] = rank << kTokenBits | static_cast<Key>(kPartTokens - 1 - place);
    }
    if (thread == 0) shared().n_found = 0;
    Rounds rounds;
    const Key reached = find_key(32 + kTokenBits, b.a.n_keep, b.a.n_keep / 4 + 8, [&](Key key) {
        int n = 0;
#pragma unroll
        for (int k = 0; k < kTokensPerThread; ++k) n += keys[k] >= key ? 1 : 0;
        return rounds.sum(n);
    });
    constexpr Key kLowest = Key{kNaN} << kTokenBits;
    Key* found = b.found + part * kPartTokens;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kTokensPerThread; ++k) {
        if (keys[k] < kLowest || keys[k] < reached) continue;
        const unsigned token = static_cast<unsigned>(begin + k * kFindThreads + thread);
        found[atomicAdd(&shared().n_found, 1)] = keys[k] >> kTokenBits << 32 | (0xffffffffu - token);
    }
    __syncthreads();
    if (thread == 0) b.n_found[part] = shared().n_found;
}

// The tokens [begin, end) of a word that begins at `first`.
__device__ __forceinline__ unsigned word_of(int first, int begin, int end) {
    const int from = max(begin - first, 0), to = min(end - first, kWordTokens);
    if (from >= to) return 0;
    return (to == kWordTokens ? 0xffffffffu : (1u << to) - 1) & ~((1u << from) - 1);
}

__global__ void __launch_bounds__(kMergeThreads) merge_best(Best b) {
    const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
    const kc_query_view query = b.a.frame.queries[blockIdx.y];
    const int64_t list = static_cast<int64_t>(blockIdx.y) * b.a.layer.n_kv_heads + b.a.kv_head_begin + blockIdx.x;
    const Candidates candidates = Candidates::of(b.a, query, list);
    const int n_words = candidates.n_tokens / kWordTokens;
    const int32_t* n_found = b.n_found + list * b.n_parts;
    unsigned* bits = b.bits + list * (b.a.token_stride / kWordTokens);
    for (int w = thread; w < n_words; w += kMergeThreads) {
        bits[w] = word_of(w * kWordTokens, 0, candidates.first) |
                  word_of(w * kWordTokens, candidates.last, candidates.n_visible);
    }
    // visit(key) for all that was found; a warp per part.
    const auto over_found = [&](auto visit) {
        for (int p = warp; p < b.n_parts; p += kMergeThreads / kWarp) {
            const Key* found = b.found + (list * b.n_parts + p) * kPartTokens;
            for (int i = lane; i < n_found[p]; i += kWarp) visit(found[i]);
        }
    };
    Rounds rounds;
    const auto count = [&](Key key) {
        int n = 0;
        over_found([&](Key k) { n += k >= key ? 1 : 0; });
        return rounds.sum(n);
    };
    const int n_all = count(0), n_chosen = min(n_all, b.a.n_keep);
    const Key reached = n_all <= b.a.n_keep ? 0 : find_key(64, b.a.n_keep, 0, count);
    over_found([&](Key key) {
        if (key < reached) return;
        const unsigned token = 0xffffffffu - static_cast<unsigned>(key);
        atomicOr(bits + token / kWordTokens, 1u << token % kWordTokens);
    });
    __syncthreads();
    // Every thread lists the tokens of some words, behind those of the threads before it.
    const int per_thread = (n_words + kMergeThreads - 1) / kMergeThreads;
    const int first = min(thread * per_thread, n_words), last = min(first + per_thread, n_words);
    int n = 0;
    for (int w = first; w < last; ++w) n += __popc(bits[w]);
    int before = n;
    for (int i = 1; i < kWarp; i *= 2) {
        const int other = __shfl_up_sync(kAllLanes, before, i);
        if (lane >= i) before += other;
    }
    int* warps = shared().counts[rounds.round % 2];
    if (lane == kWarp - 1) warps[warp] = before;
    __syncthreads();
    int n_kept = 0;
    before -= n;
    for (int w = 0; w < kMergeThreads / kWarp; ++w) {
        if (w < warp) before += warps[w];
        n_kept += warps[w];
    }
    int32_t* kept = b.a.kept + list * b.a.kept_stride + before;
    for (int w = first; w < last; ++w) {
        for (unsigned left = bits[w]; left != 0; left &= left - 1)
            *kept++ = w * kWordTokens + __ffs(static_cast<int>(left)) - 1;
    }
    if (thread != 0) return;
    b.a.n_kept[list] = n_kept;
    b.a.n_selected[list] = n_chosen;
    b.a.missed[list] = 0;
}

int64_t n_parts_of(int64_t token_stride) { return ceil_div(token_stride, kPartTokens); }

}  // namespace

uint64_t select_best_scratch_bytes(int64_t n_lists, int64_t token_stride) {
    const int64_t n_parts = n_parts_of(token_stride);
    return static_cast<uint64_t>(n_lists) *
           (static_cast<uint64_t>(n_parts) * (kPartTokens * sizeof(Key) + sizeof(int32_t)) +
            static_cast<uint64_t>(token_stride / kWordTokens) * sizeof(unsigned));
}

void select_best(Context& context, const Select& select, int64_t n_queries, int64_t n_heads, void* scratch) {
    const int64_t n_parts = n_parts_of(select.token_stride), n_lists = n_queries * select.layer.n_kv_heads;
    Key* found = static_cast<Key*>(scratch);
    auto* n_found = reinterpret_cast<int32_t*>(found + n_lists * n_parts * kPartTokens);
    const Best best = {select, found, n_found, reinterpret_cast<unsigned*>(n_found + n_lists * n_parts),
                       static_cast<int32_t>(n_parts)};
    const auto heads = static_cast<unsigned>(n_heads), queries = static_cast<unsigned>(n_queries);
    launch(find_best, dim3(static_cast<unsigned>(n_parts), heads, queries), kFindThreads, sizeof(Shared),
           context.stream(), best);
    launch(merge_best, dim3(heads, queries), kMergeThreads, sizeof(Shared), context.stream(), best);
}

}  // namespace kc::cuda
