#include "cpu/kernels/hot_rows.h"

#include <algorithm>
#include <cstring>

#include "cpu/context.h"
#include "cpu/kernels/layout.h"

namespace kc {
namespace {

// Stamp of a slot whose token is about to be replaced.
constexpr uint32_t kLeaving = ~uint32_t{0};

}  // namespace

uint64_t HotRows::state_bytes(int32_t n_slots) {
    return static_cast<uint64_t>(round_up(static_cast<int64_t>(sizeof(Header)) + 16 * int64_t{n_slots}, 64));
}

HotRows::HotRows(uint8_t* state, int32_t n_slots)
    : header_(reinterpret_cast<Header*>(state)),
      n_slots_(n_slots),
      tokens_(reinterpret_cast<int32_t*>(state + sizeof(Header))),
      slots_(tokens_ + n_slots),
      stamps_(reinterpret_cast<uint32_t*>(slots_ + n_slots)),
      order_(reinterpret_cast<int32_t*>(stamps_ + n_slots)) {}

void HotRows::drop(int32_t first_token) {
    if (first_token <= 0) {
        *header_ = {};
        std::fill_n(stamps_, n_slots_, 0u);
        return;
    }
    while (header_->n_entries > 0 && tokens_[header_->n_entries - 1] >= first_token) {
        stamps_[slots_[--header_->n_entries]] = 0;
    }
}

void HotRows::begin_step() {
    ++header_->clock;
    header_->cursor = 0;
}

int32_t HotRows::find(int32_t token) {
    int32_t& at = header_->cursor;
    while (at < header_->n_entries && tokens_[at] < token) ++at;
    if (at == header_->n_entries || tokens_[at] != token) return -1;
    stamps_[slots_[at]] = header_->clock;
    return slots_[at];
}

int32_t HotRows::make_room(int64_t n, const int32_t** slots) {
    int32_t n_unused = 0;
    for (int32_t slot = 0; slot < n_slots_; ++slot) {
        if (stamps_[slot] != header_->clock) order_[n_unused++] = slot;
    }
    const int32_t n_freed = static_cast<int32_t>(std::min<int64_t>(n, n_unused));
    const auto older = [this](int32_t a, int32_t b) {
        return stamps_[a] != stamps_[b] ? stamps_[a] < stamps_[b] : a < b;
    };
    if (n_freed < n_unused) std::nth_element(order_, order_ + n_freed, order_ + n_unused, older);
    std::sort(order_, order_ + n_freed, older);
    for (int32_t i = 0; i < n_freed; ++i) stamps_[order_[i]] = kLeaving;
    int32_t n_left = 0;
    for (int32_t i = 0; i < header_->n_entries; ++i) {
        if (stamps_[slots_[i]] == kLeaving) continue;
        tokens_[n_left] = tokens_[i];
        slots_[n_left++] = slots_[i];
    }
    header_->n_entries = n_left;
    *slots = order_;
    return n_freed;
}

void HotRows::place(const int32_t* tokens, int32_t n) {
    int32_t old = header_->n_entries;
    header_->n_entries += n;
    // Merged from the end, so that nothing is overwritten before it has moved.
    for (int32_t at = header_->n_entries; n > 0;) {
        --at;
        if (old > 0 && tokens_[old - 1] > tokens[n - 1]) {
            --old;
            tokens_[at] = tokens_[old];
            slots_[at] = slots_[old];
        } else {
            --n;
            tokens_[at] = tokens[n];
            slots_[at] = order_[n];
            stamps_[order_[n]] = header_->clock;
        }
    }
}

uint64_t hot_state_bytes(int32_t n_slots) { return HotRows::state_bytes(n_slots); }

void hot_drop(CpuContext&, const kc_hot_store& hot, int32_t n_kv_heads, int32_t slot, int32_t first_token) {
    const int64_t bytes = static_cast<int64_t>(HotRows::state_bytes(hot.n_slots));
    for (int32_t head = 0; head < n_kv_heads; ++head) {
        HotRows(hot.state + slot * hot.state_stride_bytes + head * bytes, hot.n_slots).drop(first_token);
    }
}

}  // namespace kc
