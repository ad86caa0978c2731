#include "frame_ring.h"

#include <algorithm>
#include <cstring>

#include "device/launch.h"

namespace kc::cuda {

FrameRing::~FrameRing() {
    for (Slot& slot : slots_) {
        cudaFree(slot.device);
        cudaFreeHost(slot.pinned);
        if (slot.copied) cudaEventDestroy(slot.copied);
    }
}

// Everything behind one another: sequences, queries, page tables (each sequence's `pages` holds its offset).
void FrameRing::gather(const kc_sequence_view* sequences, int64_t n_sequences, const kc_query_view* queries,
                       int64_t n_queries) {
    uint64_t n_bytes = sizeof(kc_sequence_view) * static_cast<uint64_t>(n_sequences) +
                       sizeof(kc_query_view) * static_cast<uint64_t>(n_queries);
    uint64_t at = n_bytes;
    for (int64_t s = 0; s < n_sequences; ++s)
        n_bytes += sizeof(kc_page_view) * static_cast<uint64_t>(sequences[s].n_pages);
    gathered_.resize(n_bytes);
    for (int64_t s = 0; s < n_sequences; ++s) {
        kc_sequence_view view = sequences[s];
        const uint64_t pages_bytes = sizeof(kc_page_view) * static_cast<uint64_t>(view.n_pages);
        std::memcpy(gathered_.data() + at, view.pages, pages_bytes);
        view.pages = reinterpret_cast<const kc_page_view*>(at);
        std::memcpy(gathered_.data() + sizeof view * static_cast<uint64_t>(s), &view, sizeof view);
        at += pages_bytes;
    }
    if (n_queries > 0) {
        std::memcpy(gathered_.data() + sizeof(kc_sequence_view) * static_cast<uint64_t>(n_sequences), queries,
                    sizeof(kc_query_view) * static_cast<uint64_t>(n_queries));
    }
}

void FrameRing::grow(Slot& slot, uint64_t n_bytes) {
    if (n_bytes <= slot.capacity) return;
    const uint64_t capacity = std::max(std::max(n_bytes, 2 * slot.capacity), kFirstBytes);
    // Kernels in flight may still read the old one.
    check(cudaStreamSynchronize(stream_), "waiting for kernels that read a frame");
    cudaFree(slot.device);
    cudaFreeHost(slot.pinned);
    slot.device = nullptr;
    slot.pinned = nullptr;
    slot.capacity = 0;
    check(cudaMalloc(reinterpret_cast<void**>(&slot.device), capacity), "allocating a frame");
    check(cudaHostAlloc(reinterpret_cast<void**>(&slot.pinned), capacity, cudaHostAllocDefault), "pinning a frame");
    if (!slot.copied) check(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming), "creating an event");
    slot.capacity = capacity;
    ++n_allocations_;
}

FrameRing::Slot& FrameRing::find_or_copy(int64_t n_sequences) {
    for (Slot& slot : slots_) {
        if (slot.in_use && slot.content == gathered_) return slot;
    }
    Slot& slot = slots_[next_];
    next_ = (next_ + 1) % kSlots;
    grow(slot, gathered_.size());
    // The pinned side is free once its last copy has ended; the device side, because this stream's kernels come first.
    if (slot.in_use) check(cudaEventSynchronize(slot.copied), "waiting for a frame's copy");
    slot.content = gathered_;
    slot.in_use = true;
    std::memcpy(slot.pinned, gathered_.data(), gathered_.size());
    for (int64_t s = 0; s < n_sequences; ++s) {
        uint8_t* field =
            slot.pinned + sizeof(kc_sequence_view) * static_cast<uint64_t>(s) + offsetof(kc_sequence_view, pages);
        uintptr_t address;
        std::memcpy(&address, field, sizeof address);
        address += reinterpret_cast<uintptr_t>(slot.device);
        std::memcpy(field, &address, sizeof address);
    }
    check(cudaMemcpyAsync(slot.device, slot.pinned, gathered_.size(), cudaMemcpyHostToDevice, stream_),
          "copying a frame");
    check(cudaEventRecord(slot.copied, stream_), "recording an event");
    return slot;
}

Frame FrameRing::upload(const kc_sequence_view* sequences, int64_t n_sequences, const kc_query_view* queries,
                        int64_t n_queries) {
    gather(sequences, n_sequences, queries, n_queries);
    const Slot& slot = find_or_copy(n_sequences);
    return {reinterpret_cast<const kc_sequence_view*>(slot.device),
            reinterpret_cast<const kc_query_view*>(slot.device +
                                                   sizeof(kc_sequence_view) * static_cast<uint64_t>(n_sequences))};
}

Frame FrameRing::upload(const kc_wave& wave) {
    int32_t n_sequences = 0;
    for (int32_t w = 0; w < wave.n_queries; ++w) n_sequences = std::max(n_sequences, wave.queries[w].sequence + 1);
    return upload(wave.sequences, n_sequences, wave.queries, wave.n_queries);
}

const void* FrameRing::upload(const void* data, uint64_t n_bytes) {
    gathered_.assign(static_cast<const uint8_t*>(data), static_cast<const uint8_t*>(data) + n_bytes);
    return find_or_copy(0).device;
}

}  // namespace kc::cuda
