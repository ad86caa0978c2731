// The directory of the hot rows of one sequence slot and KV head: which token lies in which slot, and when each slot
// was last used. It lies in the state memory of a kc_hot_store and owns nothing.
#pragma once

#include <cstdint>

#include "kcache_ops.h"

namespace kc {

class HotRows {
  public:
    static uint64_t state_bytes(int32_t n_slots);

    HotRows(uint8_t* state, int32_t n_slots);

    // Forgets the tokens from first_token on.
    void drop(int32_t first_token);

    // A step: look tokens up in ascending order, then make room for those that were not found. What a step has used or
    // placed is not replaced by the same step.
    void begin_step();
    // The slot of a token, or -1.
    int32_t find(int32_t token);
    // Frees the least recently used slots (ties: the lowest) for up to n tokens, in the order in which they are to be
    // filled; returns how many.
    int32_t make_room(int64_t n, const int32_t** slots);
    // Enters tokens [n], ascending, into the slots of make_room.
    void place(const int32_t* tokens, int32_t n);

  private:
    struct Header {
        uint32_t clock;  // steps since the last drop of everything
        int32_t n_entries;
        int32_t cursor;
        int32_t reserved;
    };

    Header* header_;
    int32_t n_slots_;
    int32_t* tokens_;   // [n_entries] ascending
    int32_t* slots_;    // [n_entries] of these tokens
    uint32_t* stamps_;  // [n_slots]: step of the last use; 0: empty
    int32_t* order_;    // [n_slots]: slots to fill
};

}  // namespace kc
