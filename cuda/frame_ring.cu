#include "frame_ring.h"

#include <algorithm>
#include <cstring>

#include "context.h"
#include "device/launch.h"

namespace kc::cuda {
namespace {

int64_t n_sequences_of(const kc_wave& wave) {
    int64_t n = 0;
    for (int32_t w = 0; w < wave.n_queries; ++w) n = std::max<int64_t>(n, wave.queries[w].sequence + 1);
    return n;
}

}  // namespace

FrameRing::~FrameRing() {
    const auto destroy = [](Slot& slot) {
        cudaFree(slot.device);
        cudaFreeHost(slot.pinned);
        if (slot.copied) cudaEventDestroy(slot.copied);
    };
    for (Slot& slot : slots_) destroy(slot);
    destroy(held_slot_);
}

// Everything behind one another: sequences, queries, page tables (each sequence's `pages` holds its offset).
void FrameRing::gather(const kc_sequence_view* sequences, int64_t n_sequences, const kc_query_view* queries,
                       int64_t n_queries) {
    uint64_t n_bytes = sizeof(kc_sequence_view) * static_cast<uint64_t>(n_sequences) +
                       sizeof(kc_query_view) * static_cast<uint64_t>(n_queries);
    uint64_t at = n_bytes;
    for (int64_t s = 0; s < n_sequences; ++s)
        n_bytes += sizeof(kc_page_view) * static_cast<uint64_t>(sequences[s].n_pages);
    // Page tables grow in steps that must not allocate.
    if (n_bytes > gathered_.capacity())
        gathered_.reserve(std::max<uint64_t>(std::max<uint64_t>(n_bytes, 2 * gathered_.capacity()), kFirstBytes));
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
    check(cudaStreamSynchronize(context_.stream()), "waiting for kernels that read a frame");
    cudaFree(slot.device);
    cudaFreeHost(slot.pinned);
    slot.device = nullptr;
    slot.pinned = nullptr;
    slot.capacity = 0;
    check(cudaMalloc(reinterpret_cast<void**>(&slot.device), capacity), "allocating a frame");
    check(cudaHostAlloc(reinterpret_cast<void**>(&slot.pinned), capacity, cudaHostAllocDefault), "pinning a frame");
    if (!slot.copied) check(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming), "creating an event");
    slot.content.reserve(capacity);
    slot.capacity = capacity;
    ++n_allocations_;
}

FrameRing::Slot& FrameRing::find_or_copy(int64_t n_sequences) {
    // A record would read its place when something else lies there.
    context_.leave_record();
    for (Slot& slot : slots_) {
        if (slot.in_use && slot.content == gathered_) return slot;
    }
    Slot& slot = slots_[next_];
    next_ = (next_ + 1) % kSlots;
    copy(slot, n_sequences);
    return slot;
}

// What was gathered, into a slot.
void FrameRing::copy(Slot& slot, int64_t n_sequences) {
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
    check(cudaMemcpyAsync(slot.device, slot.pinned, gathered_.size(), cudaMemcpyHostToDevice, context_.stream()),
          "copying a frame");
    check(cudaEventRecord(slot.copied, context_.stream()), "recording an event");
}

Frame FrameRing::frame_in(const Slot& slot, int64_t n_sequences) {
    return {reinterpret_cast<const kc_sequence_view*>(slot.device),
            reinterpret_cast<const kc_query_view*>(slot.device +
                                                   sizeof(kc_sequence_view) * static_cast<uint64_t>(n_sequences))};
}

Frame FrameRing::hold(const kc_wave& wave) {
    const int64_t n_sequences = n_sequences_of(wave);
    gather(wave.sequences, n_sequences, wave.queries, wave.n_queries);
    copy(held_slot_, n_sequences);
    held_ = frame_in(held_slot_, n_sequences);
    held_sequences_ = wave.sequences;
    held_queries_ = wave.queries;
    n_held_sequences_ = n_sequences;
    n_held_queries_ = wave.n_queries;
    return held_;
}

Frame FrameRing::upload(const kc_sequence_view* sequences, int64_t n_sequences, const kc_query_view* queries,
                        int64_t n_queries) {
    if (held_sequences_ && sequences == held_sequences_ && n_sequences <= n_held_sequences_ &&
        (n_queries == 0 || (queries == held_queries_ && n_queries <= n_held_queries_))) {
        return held_;
    }
    gather(sequences, n_sequences, queries, n_queries);
    return frame_in(find_or_copy(n_sequences), n_sequences);
}

Frame FrameRing::upload(const kc_wave& wave) {
    return upload(wave.sequences, n_sequences_of(wave), wave.queries, wave.n_queries);
}

const void* FrameRing::upload(const void* data, uint64_t n_bytes) {
    gathered_.assign(static_cast<const uint8_t*>(data), static_cast<const uint8_t*>(data) + n_bytes);
    return find_or_copy(0).device;
}

}  // namespace kc::cuda
