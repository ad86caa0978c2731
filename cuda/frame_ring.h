// The frames that kernels read: sequences, their page tables and queries, copied to the device once per content. All
// layers of a forward carry the same frame, so all but the first find it there. The frame of a decode step that is
// recorded or replayed has a place of its own, so that its address stays.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "device/layout.h"

namespace kc::cuda {

class Context;

class FrameRing {
  public:
    explicit FrameRing(Context& context) : context_(context) {}
    ~FrameRing();
    FrameRing(const FrameRing&) = delete;
    FrameRing& operator=(const FrameRing&) = delete;

    Frame upload(const kc_sequence_view* sequences, int64_t n_sequences, const kc_query_view* queries = nullptr,
                 int64_t n_queries = 0);
    Frame upload(const kc_wave& wave);
    // Plain bytes that kernels read (addresses of staged pages, say).
    const void* upload(const void* data, uint64_t n_bytes);
    // Until let_go, whoever uploads the sequences of this wave, and nothing behind them, finds them here, with its
    // queries: the host's memory of both stays as it is.
    Frame hold(const kc_wave& wave);
    void let_go() { held_sequences_ = nullptr; }
    uint64_t n_allocations() const { return n_allocations_; }

  private:
    static constexpr int kSlots = 4;
    static constexpr uint64_t kFirstBytes = 256 * 1024;

    struct Slot {
        std::vector<uint8_t> content;  // with page tables as offsets
        uint8_t* pinned = nullptr;
        uint8_t* device = nullptr;
        uint64_t capacity = 0;
        cudaEvent_t copied = nullptr;
        bool in_use = false;
    };

    void gather(const kc_sequence_view* sequences, int64_t n_sequences, const kc_query_view* queries,
                int64_t n_queries);
    Slot& find_or_copy(int64_t n_sequences);
    void copy(Slot& slot, int64_t n_sequences);
    static Frame frame_in(const Slot& slot, int64_t n_sequences);
    void grow(Slot& slot, uint64_t n_bytes);

    Context& context_;
    Slot slots_[kSlots];
    Slot held_slot_;
    Frame held_ = {};
    const kc_sequence_view* held_sequences_ = nullptr;  // NULL: none is held
    const kc_query_view* held_queries_ = nullptr;
    int64_t n_held_sequences_ = 0;
    int64_t n_held_queries_ = 0;
    int next_ = 0;
    std::vector<uint8_t> gathered_;
    uint64_t n_allocations_ = 0;
};

}  // namespace kc::cuda
