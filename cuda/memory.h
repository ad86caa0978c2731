// The homes of this backend: device memory (fast) and pinned host memory (slow), which kernels read where it lies.
#pragma once

#include "context.h"
#include "core/backend.h"

namespace kc::cuda {

// What kernels note in Context::faults.
constexpr uint32_t kFaultNoRoom = 1;     // a spilled row was wanted, but neither a hot slot nor staging was there
constexpr uint32_t kFaultEmbedding = 2;  // an id lies outside the table

constexpr int kPinnedChunkShift = 21;
constexpr int64_t kPinnedChunkBytes = int64_t{1} << kPinnedChunkShift;

// Device memory, zeroed. Throws an Error (MEMORY) that names what was wanted and what is free.
void* device_allocate(Context& context, uint64_t n_bytes);
void device_release(Context& context, void* memory);

// The slow home: offsets like those of a file, held by pinned slabs that are added as it grows. Writes are enqueued on
// the push stream, reads on the fetch stream.
kc_spill* pinned_create(Context& context);
void pinned_reserve(kc_spill* spill, uint64_t n_bytes);
void pinned_write(kc_spill* spill, const Backend::Move* moves, int64_t n);
void pinned_read(kc_spill* spill, const Backend::Move* moves, int64_t n);
void pinned_read_end(kc_spill* spill);
void pinned_destroy(kc_spill* spill);

// The slow home as kernels see it: 16 bytes at an offset that is a multiple of 16 never cross a chunk.
struct PinnedHome {
    const uint8_t* const* chunks;
    __device__ __forceinline__ const uint8_t* at(int64_t offset_bytes) const {
        return chunks[offset_bytes >> kPinnedChunkShift] + (offset_bytes & (kPinnedChunkBytes - 1));
    }
};
PinnedHome pinned_home(const kc_spill* spill);

}  // namespace kc::cuda
