// The frames that kernels read: sequences, their page tables and queries, copied to the device once per content. All
// layers of a forward carry the same frame, so all but the first find it there.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "device/layout.h"

namespace kc::cuda {

class FrameRing {
  public:
    explicit FrameRing(cudaStream_t stream) : stream_(stream) {}
    ~FrameRing();
    FrameRing(const FrameRing&) = delete;
    FrameRing& operator=(const FrameRing&) = delete;

    Frame upload(const kc_sequence_view* sequences, int64_t n_sequences, const kc_query_view* queries = nullptr,
                 int64_t n_queries = 0);
    Frame upload(const kc_wave& wave);
    // Plain bytes that kernels read (addresses of staged pages, say).
    const void* upload(const void* data, uint64_t n_bytes);
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
    void grow(Slot& slot, uint64_t n_bytes);

    cudaStream_t stream_;
    Slot slots_[kSlots];
    int next_ = 0;
    std::vector<uint8_t> gathered_;
    uint64_t n_allocations_ = 0;
};

}  // namespace kc::cuda
