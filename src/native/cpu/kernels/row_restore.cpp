// Purpose:  the address of the exact row of every kept token; spilled rows come back through hot slots or staging.
// Shapes:   kept [query, kv_head, kept_stride] to rows, the same shape; a row is [V] or [K, V] of one token and head.
// Mapping:  piece = (query, KV head) for the directories; the reads of all of them are one sorted batch.
// Traffic:  rows missed * row_bytes from the file (and what lies between rows of one 4 KiB block); hot rows move
// nothing. Numerics: bytes are moved as they are.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <optional>

#include "core/error.h"
#include "cpu/context.h"
#include "cpu/kernels/hot_rows.h"
#include "cpu/kernels/layout.h"
#include "cpu/kernels/wave_lists.h"
#include "cpu/memory/spill.h"

namespace kc {
namespace {

constexpr uint64_t kBlockBytes = 4096;
// Room per list for reads that bring several rows at once; when it is used up, rows are read one by one.
constexpr int64_t kMergedBytes = 64 * 1024;

struct Miss {
    uint64_t offset_bytes;
    uint8_t* to;
};

// One read and the missed rows in it.
struct Merged {
    int64_t first;
    int64_t n;
};

struct Flight {
    Spill::Ticket ticket;
    int64_t n_misses;
    int64_t n_moves;
};

// The scratch of one restore, carved.
struct RestoreScratch {
    Flight* flight;
    int32_t* n_missed;     // [lists]
    int32_t* new_tokens;   // [lists, kept_stride]: positions of the rows that go into hot slots
    Miss* misses;          // [lists, kept_stride], then packed
    Merged* merged;        // [lists * kept_stride]
    Backend::Move* moves;  // [lists * kept_stride]
    uint8_t* buffer;
    int64_t buffer_bytes;

    static int64_t carve(int64_t n_lists, int64_t kept_stride, int64_t row_bytes, uint8_t* base, RestoreScratch* s) {
        int64_t at = 0;
        const auto take = [&](int64_t n_bytes) {
            uint8_t* p = base == nullptr ? nullptr : base + at;
            at += round_up(n_bytes, 64);
            return p;
        };
        const int64_t n_rows = n_lists * kept_stride;
        s->buffer_bytes = n_lists * std::min(kMergedBytes, 4 * kept_stride * row_bytes);
        s->flight = reinterpret_cast<Flight*>(take(sizeof(Flight)));
        s->n_missed = reinterpret_cast<int32_t*>(take(n_lists * 4));
        s->new_tokens = reinterpret_cast<int32_t*>(take(n_rows * 4));
        s->misses = reinterpret_cast<Miss*>(take(n_rows * static_cast<int64_t>(sizeof(Miss))));
        s->merged = reinterpret_cast<Merged*>(take(n_rows * static_cast<int64_t>(sizeof(Merged))));
        s->moves = reinterpret_cast<Backend::Move*>(take(n_rows * static_cast<int64_t>(sizeof(Backend::Move))));
        s->buffer = take(s->buffer_bytes);
        return at;
    }
};

struct Restore {
    const kc_row_restore_params& params;
    const WaveLists lists;
    const kc_layer_view& layer;
    RestoreScratch scratch;

    explicit Restore(const kc_row_restore_params& p) : params(p), lists{*p.wave}, layer(*p.wave->layer) {
        RestoreScratch::carve(lists.n(), p.kept_stride, layer.exact.row_bytes, static_cast<uint8_t*>(p.scratch),
                              &scratch);
    }

    HotRows hot_of(int64_t list) const {
        const kc_hot_store& hot = *params.hot;
        return {hot.state + lists.sequence_of(list).hot * hot.state_stride_bytes +
                    lists.head_of(list) * static_cast<int64_t>(HotRows::state_bytes(hot.n_slots)),
                hot.n_slots};
    }
    uint8_t* hot_row(int64_t list, int32_t slot) const {
        const kc_hot_store& hot = *params.hot;
        return hot.rows + lists.sequence_of(list).hot * hot.hot_stride_bytes +
               (int64_t{lists.head_of(list)} * hot.n_slots + slot) * layer.exact.row_bytes;
    }

    const uint8_t* fast_row(const kc_sequence_view& sequence, int32_t page, int32_t head, int32_t token) const;
    // False where a missing row has no place to go.
    bool resolve(int64_t list) const;
    void plan_reads() const;
    void forget() const;
};

// nullptr where the row lies in the spill file.
const uint8_t* Restore::fast_row(const kc_sequence_view& sequence, int32_t page, int32_t head, int32_t token) const {
    if (in_first_store(layer.v, sequence, page)) {
        return block_of(layer.v, sequence, page, head, layer.head_dim).data + int64_t{token} * 2 * layer.head_dim;
    }
    const int32_t slot = sequence.pages[page].exact;
    return slot < 0 ? nullptr : exact_rows(layer.exact, slot, head) + token * layer.exact.row_bytes;
}

bool Restore::resolve(int64_t list) const {
    const kc_sequence_view& sequence = lists.sequence_of(list);
    const kc_exact_store& exact = layer.exact;
    const int64_t at = lists.place_of(list) * params.kept_stride;
    const int32_t* kept = params.kept + at;
    const uint8_t** rows = params.rows + at;
    const int32_t n_kept = params.n_kept[lists.place_of(list)];
    int32_t n_hot = 0, n_missed = 0;
    scratch.n_missed[list] = 0;
    std::optional<HotRows> hot;  // once a spilled row was met
    for (int32_t i = 0; i < n_kept; ++i) {
        const int32_t page = kept[i] / kPageTokens, token = kept[i] % kPageTokens;
        rows[i] = fast_row(sequence, page, lists.head_of(list), token);
        if (rows[i] != nullptr) continue;
        if (params.hot == nullptr) return false;
        if (!hot) {
            hot.emplace(hot_of(list));
            hot->begin_step();
        }
        const int32_t slot = hot->find(sequence.pages[page].position + token);
        if (slot < 0) {
            ++n_missed;
        } else {
            ++n_hot;
            rows[i] = hot_row(list, slot);
        }
    }
    params.n_hot[lists.place_of(list)] = n_hot;
    params.n_restored[lists.place_of(list)] = n_missed;
    scratch.n_missed[list] = n_missed;
    if (n_missed == 0) return true;
    const int32_t* slots;
    const int32_t n_room = hot->make_room(n_missed, &slots);
    if (n_room < n_missed && params.staging == nullptr) return false;
    Miss* miss = scratch.misses + list * params.kept_stride;
    int32_t* new_tokens = scratch.new_tokens + list * params.kept_stride;
    int32_t n = 0;
    for (int32_t i = 0; i < n_kept; ++i) {
        if (rows[i] != nullptr) continue;
        const kc_page_view& page = sequence.pages[kept[i] / kPageTokens];
        const int32_t token = kept[i] % kPageTokens;
        uint8_t* to = n < n_room ? hot_row(list, slots[n]) : params.staging + (at + i) * exact.row_bytes;
        miss[n] = {static_cast<uint64_t>(exact.spill_offset_bytes + ~page.exact * exact.spill_stride_bytes +
                                         (int64_t{lists.head_of(list)} * kPageTokens + token) * exact.row_bytes),
                   to};
        new_tokens[n++] = page.position + token;
        rows[i] = to;
    }
    hot->place(new_tokens, n_room);
    return true;
}

// Packs and sorts the misses of all lists; rows that touch, or share a 4 KiB block, come with one read.
void Restore::plan_reads() const {
    Flight& flight = *scratch.flight;
    for (int64_t list = 0; list < lists.n(); ++list) {
        std::memmove(scratch.misses + flight.n_misses, scratch.misses + list * params.kept_stride,
                     sizeof(Miss) * static_cast<size_t>(scratch.n_missed[list]));
        flight.n_misses += scratch.n_missed[list];
    }
    std::sort(scratch.misses, scratch.misses + flight.n_misses,
              [](const Miss& a, const Miss& b) { return a.offset_bytes < b.offset_bytes; });
    const uint64_t row_bytes = static_cast<uint64_t>(layer.exact.row_bytes);
    uint64_t used = 0;
    for (int64_t i = 0, n; i < flight.n_misses; i += n) {
        const uint64_t begin = scratch.misses[i].offset_bytes;
        uint64_t end = begin + row_bytes;
        for (n = 1; i + n < flight.n_misses; ++n) {
            const uint64_t next = scratch.misses[i + n].offset_bytes;
            if (next > end && next / kBlockBytes != (end - 1) / kBlockBytes) break;
            const uint64_t grown = std::max(end, next + row_bytes);
            if (used + (grown - begin) > static_cast<uint64_t>(scratch.buffer_bytes)) break;
            end = grown;
        }
        uint8_t* to = scratch.misses[i].to;
        if (n > 1) {
            to = scratch.buffer + used;
            used += end - begin;
        }
        scratch.moves[flight.n_moves] = {to, begin, end - begin};
        scratch.merged[flight.n_moves++] = {i, n};
    }
}

// After a failed read nothing that was on its way may be found again.
void Restore::forget() const {
    scratch.flight->n_moves = 0;
    for (int64_t list = 0; list < lists.n(); ++list) {
        if (params.hot != nullptr && scratch.n_missed[list] != 0) hot_of(list).drop(0);
        params.n_restored[lists.place_of(list)] = 0;
    }
}

}  // namespace

uint64_t row_restore_scratch_bytes(CpuContext&, const kc_layer_view& layer, int64_t n_queries, int64_t kept_stride) {
    RestoreScratch scratch;
    return static_cast<uint64_t>(
        RestoreScratch::carve(n_queries * layer.n_kv_heads, kept_stride, layer.exact.row_bytes, nullptr, &scratch));
}

void row_restore_begin(CpuContext& context, const kc_row_restore_params& params) {
    const Restore restore(params);
    Flight* flight = new (restore.scratch.flight) Flight();
    std::atomic<bool> placed{true};
    context.pool.run(restore.lists.n(), 4, [&](int64_t begin, int64_t end, int) {
        for (int64_t list = begin; list < end; ++list) {
            if (!restore.resolve(list)) placed.store(false, std::memory_order_relaxed);
        }
    });
    if (!placed.load()) {
        restore.forget();
        fail(KC_ERR_ARGUMENT, "row_restore: a kept row is spilled and hot has no room for it, but staging is NULL");
    }
    restore.plan_reads();
    if (flight->n_moves == 0) return;
    try {
        static_cast<Spill*>(restore.layer.exact.spill)
            ->read_begin(restore.scratch.moves, flight->n_moves, flight->ticket);
    } catch (...) {
        restore.forget();
        throw;
    }
}

void row_restore_end(CpuContext&, const kc_row_restore_params& params) {
    const Restore restore(params);
    Flight& flight = *restore.scratch.flight;
    if (flight.n_moves == 0) return;
    try {
        static_cast<Spill*>(restore.layer.exact.spill)->read_end(flight.ticket);
    } catch (...) {
        restore.forget();
        throw;
    }
    const size_t row_bytes = static_cast<size_t>(restore.layer.exact.row_bytes);
    for (int64_t m = 0; m < flight.n_moves; ++m) {
        const Merged& merged = restore.scratch.merged[m];
        const Backend::Move& move = restore.scratch.moves[m];
        if (merged.n == 1) continue;
        for (int64_t i = merged.first; i < merged.first + merged.n; ++i) {
            const Miss& miss = restore.scratch.misses[i];
            std::memcpy(miss.to, static_cast<uint8_t*>(move.memory) + (miss.offset_bytes - move.offset_bytes),
                        row_bytes);
        }
    }
    flight.n_moves = 0;
}

}  // namespace kc
