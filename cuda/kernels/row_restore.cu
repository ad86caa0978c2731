// Purpose:  the address of the exact row of every kept token; spilled rows come back through hot slots or staging.
// Shapes:   kept [query, kv_head, kept_stride] to rows, the same shape; a row is [V] or [K, V] of one token and head.
// Mapping:  resolve: a block per (query, KV head) looks up, evicts and writes the list of moves. fetch: a block per 16
//           moves, a warp per row, 16 bytes a lane straight from pinned memory: with 8 warps a block and many blocks,
//           enough is in flight to cover the bus.
// Traffic:  rows missed * row_bytes over the bus and once more into fast memory; hot rows move nothing.
// Numerics: bytes are moved as they are.
#include "kernels/attention.h"

#include "device/launch.h"
#include "device/warp.h"
#include "memory.h"

namespace kc::cuda {
namespace {

constexpr int kResolveThreads = 256;
constexpr int kResolveWarps = kResolveThreads / kWarp;
constexpr int kFetchThreads = 256;
constexpr int kMovesPerBlock = 16;
constexpr int64_t kStateHeadBytes = 16;

// The directory of the hot rows of one sequence slot and KV head: which token lies in which slot, and when each was
// last used, by steps that needed a spilled row. An empty slot has token -1 and stamp 0.
struct HotRows {
    uint32_t* clock;
    int32_t* tokens;   // [n_slots]
    uint32_t* stamps;  // [n_slots]
    int32_t* order;    // [n_slots]: in which they are to be replaced
    __device__ HotRows(uint8_t* state, int n_slots)
        : clock(reinterpret_cast<uint32_t*>(state)),
          tokens(reinterpret_cast<int32_t*>(state + kStateHeadBytes)),
          stamps(reinterpret_cast<uint32_t*>(tokens + n_slots)),
          order(reinterpret_cast<int32_t*>(stamps + n_slots)) {}
};

struct Move {
    int64_t offset_bytes;  // in the slow home
    uint8_t* to;
};

struct Restore {
    kc_layer_view layer;
    kc_hot_store hot;  // rows NULL: nothing is spilled
    Frame frame;
    PinnedHome home;
    const int32_t* kept;
    const int32_t* n_kept;
    int64_t kept_stride;
    int64_t state_bytes;
    int32_t kv_head_begin;
    uint8_t* staging;
    Move* moves;       // [lists of this call, kept_stride]
    int32_t* n_moves;  // [lists of this call]
    const uint8_t** rows;
    int32_t* n_restored;
    int32_t* n_hot;
    uint32_t* faults;
};

struct Shared {
    int counts[32];
    int sums[32];
};

// How many earlier threads of the block have the flag, and how many in all.
__device__ int count_before(bool flag, int* total) {
    Shared& s = *shared_memory<Shared>();
    const unsigned ballot = __ballot_sync(kAllLanes, flag);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    __syncthreads();
    if (lane == 0) s.counts[warp] = __popc(ballot);
    __syncthreads();
    int before = __popc(ballot & ((1u << lane) - 1));
    *total = 0;
    for (int w = 0; w < kResolveWarps; ++w) {
        if (w < warp) before += s.counts[w];
        *total += s.counts[w];
    }
    return before;
}

__global__ void __launch_bounds__(kResolveThreads) resolve(Restore a) {
    const int kv_head = a.kv_head_begin + static_cast<int>(blockIdx.x), head_dim = a.layer.head_dim;
    const kc_sequence_view& sequence = a.frame.sequences[a.frame.queries[blockIdx.y].sequence];
    const kc_exact_store& exact = a.layer.exact;
    const int64_t list = static_cast<int64_t>(blockIdx.y) * a.layer.n_kv_heads + kv_head, at = list * a.kept_stride;
    // The scratch of a call has room for its own heads only.
    const int64_t own = static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    Move* moves = a.moves + own * a.kept_stride;
    const int n_kept = a.n_kept[list], n_slots = a.hot.rows ? a.hot.n_slots : 0;
    const HotRows hot(
        n_slots ? a.hot.state + sequence.hot * a.hot.state_stride_bytes + kv_head * a.state_bytes : nullptr, n_slots);
    uint8_t* hot_rows =
        n_slots ? a.hot.rows + sequence.hot * a.hot.hot_stride_bytes + int64_t{kv_head} * n_slots * exact.row_bytes
                : nullptr;

    // What lies in fast memory anyway.
    bool spilled = false;
    for (int i = threadIdx.x; i < n_kept; i += kResolveThreads) {
        const int page = a.kept[at + i] / kPageTokens, token = a.kept[at + i] % kPageTokens;
        const uint8_t* row = nullptr;
        if (in_first_store(a.layer.v, sequence, page)) {
            row = first_block(a.layer.v, sequence, kv_head, head_dim) + int64_t{token} * 2 * head_dim;
        } else if (sequence.pages[page].exact >= 0) {
            row = exact_rows(exact, sequence.pages[page].exact, kv_head) + token * exact.row_bytes;
        }
        a.rows[at + i] = row;
        spilled = spilled || row == nullptr;
    }
    if (!__syncthreads_or(spilled)) {
        if (threadIdx.x == 0) a.n_hot[list] = a.n_restored[list] = a.n_moves[own] = 0;
        return;
    }
    if (n_slots == 0) {
        if (threadIdx.x == 0) atomicOr(a.faults, kFaultNoRoom), a.n_hot[list] = a.n_restored[list] = a.n_moves[own] = 0;
        return;
    }
    // What is hot: stamped, so that it stays.
    const uint32_t clock = *hot.clock + 1;
    int n_found = 0;
    for (int i = threadIdx.x; i < n_kept; i += kResolveThreads) {
        if (a.rows[at + i] != nullptr) continue;
        const int wanted = sequence.pages[a.kept[at + i] / kPageTokens].position + a.kept[at + i] % kPageTokens;
        for (int slot = 0; slot < n_slots; ++slot) {
            if (hot.tokens[slot] != wanted) continue;
            a.rows[at + i] = hot_rows + slot * exact.row_bytes;
            hot.stamps[slot] = clock;
            ++n_found;
            break;
        }
    }
    n_found = block_sum(n_found, shared_memory<Shared>()->sums);
    __syncthreads();
    if (threadIdx.x == 0) *hot.clock = clock;
    // The others, least recently used first (ties: the lowest slot), are to be replaced in this order.
    int n_unused = 0;
    for (int base = 0; base < n_slots; base += kResolveThreads) {
        const int slot = base + static_cast<int>(threadIdx.x);
        const uint32_t stamp = slot < n_slots ? hot.stamps[slot] : clock;
        int n_here;
        count_before(stamp != clock, &n_here);
        n_unused += n_here;
        if (stamp == clock) continue;
        int rank = 0;
        for (int other = 0; other < n_slots; ++other) {
            const uint32_t s = hot.stamps[other];
            if (s != clock && (s < stamp || (s == stamp && other < slot))) ++rank;
        }
        hot.order[rank] = slot;
    }
    __syncthreads();
    int n_missed = 0;
    for (int base = 0; base < n_kept; base += kResolveThreads) {
        const int i = base + static_cast<int>(threadIdx.x);
        const bool missing = i < n_kept && a.rows[at + i] == nullptr;
        int n_here;
        const int miss = n_missed + count_before(missing, &n_here);
        n_missed += n_here;
        if (!missing) continue;
        const kc_page_view& page = sequence.pages[a.kept[at + i] / kPageTokens];
        const int token = a.kept[at + i] % kPageTokens;
        uint8_t* to;
        if (miss < n_unused) {
            const int slot = hot.order[miss];
            hot.tokens[slot] = page.position + token;
            hot.stamps[slot] = clock;
            to = hot_rows + slot * exact.row_bytes;
        } else if (a.staging != nullptr) {
            to = a.staging + (at + i) * exact.row_bytes;
        } else {
            atomicOr(a.faults, kFaultNoRoom);
            to = hot_rows;
        }
        const int64_t offset = exact.spill_offset_bytes + int64_t{~page.exact} * exact.spill_stride_bytes +
                               (int64_t{kv_head} * kPageTokens + token) * exact.row_bytes;
        moves[miss] = {offset, to};
        a.rows[at + i] = to;
    }
    if (threadIdx.x == 0) a.n_hot[list] = n_found, a.n_restored[list] = n_missed, a.n_moves[own] = n_missed;
}

__global__ void __launch_bounds__(kFetchThreads) fetch(Restore a) {
    const int64_t own = static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y;
    const int n = a.n_moves[own], n_pieces = static_cast<int>(a.layer.exact.row_bytes / 16);
    const int first = static_cast<int>(blockIdx.x) * kMovesPerBlock;
    for (int m = first + static_cast<int>(threadIdx.x) / kWarp; m < n && m < first + kMovesPerBlock;
         m += kFetchThreads / kWarp) {
        const Move move = a.moves[own * a.kept_stride + m];
        for (int i = threadIdx.x % kWarp; i < n_pieces; i += kWarp)
            reinterpret_cast<uint4*>(move.to)[i] =
                *reinterpret_cast<const uint4*>(a.home.at(move.offset_bytes + 16 * i));
    }
}

__global__ void drop_slots(kc_hot_store hot, int64_t state_bytes, int32_t slot, int32_t first_token) {
    const HotRows rows(hot.state + slot * hot.state_stride_bytes + blockIdx.x * state_bytes, hot.n_slots);
    if (first_token <= 0 && threadIdx.x == 0) *rows.clock = 0;
    for (int i = threadIdx.x; i < hot.n_slots; i += blockDim.x) {
        if (first_token <= 0 || rows.tokens[i] >= first_token) rows.tokens[i] = -1, rows.stamps[i] = 0;
    }
}

}  // namespace

uint64_t hot_state_bytes(int32_t n_slots) {
    // kc_hot_state_bytes knows no backend: the CPU's size, of which the last word of each slot is not used here.
    return static_cast<uint64_t>(round_up(kStateHeadBytes + 16 * int64_t{n_slots}, 64));
}

void hot_drop(Context& context, const kc_hot_store& hot, int32_t n_kv_heads, int32_t slot, int32_t first_token) {
    context.leave_record();  // who is dropped follows from lengths
    launch(drop_slots, static_cast<unsigned>(n_kv_heads), 256, 0, context.stream(), hot,
           static_cast<int64_t>(hot_state_bytes(hot.n_slots)), slot, first_token);
}

uint64_t row_restore_scratch_bytes(Context&, const kc_layer_view& layer, int64_t n_queries, int64_t kept_stride) {
    const int64_t n_lists = n_queries * layer.n_kv_heads;
    return static_cast<uint64_t>(round_up(n_lists * 4, 64) +
                                 n_lists * kept_stride * static_cast<int64_t>(sizeof(Move)));
}

void row_restore_begin(Context& context, const kc_row_restore_params& params) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    const int64_t n_lists = int64_t{wave.n_queries} * (wave.kv_head_end - wave.kv_head_begin);
    auto* n_moves = static_cast<int32_t*>(params.scratch);
    auto* moves = reinterpret_cast<Move*>(static_cast<uint8_t*>(params.scratch) + round_up(n_lists * 4, 64));
    Restore restore = {};
    restore.layer = layer;
    if (params.hot) restore.hot = *params.hot;
    restore.frame = context.frames().upload(wave);
    if (layer.exact.spill) restore.home = pinned_home(layer.exact.spill);
    restore.kept = params.kept;
    restore.n_kept = params.n_kept;
    restore.kept_stride = params.kept_stride;
    restore.state_bytes = static_cast<int64_t>(hot_state_bytes(restore.hot.n_slots));
    restore.kv_head_begin = wave.kv_head_begin;
    restore.staging = params.staging;
    restore.moves = moves;
    restore.n_moves = n_moves;
    restore.rows = params.rows;
    restore.n_restored = params.n_restored;
    restore.n_hot = params.n_hot;
    restore.faults = context.faults();
    const auto heads = static_cast<unsigned>(wave.kv_head_end - wave.kv_head_begin),
               queries = static_cast<unsigned>(wave.n_queries);
    launch(resolve, dim3(heads, queries), kResolveThreads, sizeof(Shared), context.stream(), restore);
    if (!params.hot) return;
    launch(fetch, dim3(static_cast<unsigned>(ceil_div(params.kept_stride, kMovesPerBlock)), heads, queries),
           kFetchThreads, 0, context.begin_fetch(), restore);
    context.fetched();
}

void row_restore_end(Context& context, const kc_row_restore_params& params) {
    if (params.hot) context.end_fetch();
}

}  // namespace kc::cuda
