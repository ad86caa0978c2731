#include "memory.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "core/backends.h"
#include "core/context.h"
#include "device/launch.h"

namespace kc::cuda {
namespace {

constexpr int64_t kSlabBytes = 64 * 1024 * 1024;  // pinned at once, where that much can be had
constexpr int64_t kMostBytes = int64_t{1} << 38;  // of one slow home

struct Pinned : kc_spill {
    explicit Pinned(Context& on) : owner(on) {}
    Context& owner;
    std::vector<uint8_t*> slabs;
    std::vector<uint8_t*> chunks;             // by chunk of the home
    const uint8_t** device_chunks = nullptr;  // the same in device memory, room for all that there can be
};

Pinned& as_pinned(kc_spill* spill) { return *static_cast<Pinned*>(spill); }

// Adds pinned memory: a slab, or the half of one, or the half of that, down to a chunk. False: not even that.
bool add_slab(Pinned& home, int64_t wanted_bytes) {
    int64_t n_bytes = kPinnedChunkBytes;
    while (n_bytes < kSlabBytes && n_bytes < wanted_bytes) n_bytes *= 2;
    void* slab = nullptr;
    for (; cudaHostAlloc(&slab, static_cast<size_t>(n_bytes), cudaHostAllocMapped) != cudaSuccess; n_bytes /= 2) {
        cudaGetLastError();
        if (n_bytes == kPinnedChunkBytes) return false;
    }
    home.slabs.push_back(static_cast<uint8_t*>(slab));
    for (int64_t at = 0; at < n_bytes; at += kPinnedChunkBytes) home.chunks.push_back(static_cast<uint8_t*>(slab) + at);
    return true;
}

// Calls f with each piece of a move that lies in one chunk.
template <class F>
void in_pieces(const Pinned& home, const Backend::Move& move, F&& f) {
    for (uint64_t done = 0; done < move.n_bytes;) {
        const uint64_t offset = move.offset_bytes + done, within = offset % kPinnedChunkBytes;
        const uint64_t n = std::min<uint64_t>(move.n_bytes - done, kPinnedChunkBytes - within);
        f(static_cast<uint8_t*>(move.memory) + done, home.chunks[offset / kPinnedChunkBytes] + within, n);
        done += n;
    }
}

}  // namespace

void* device_allocate(Context& context, uint64_t n_bytes) {
    context.leave_record();
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, n_bytes);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        size_t n_free = 0, n_total = 0;
        cudaMemGetInfo(&n_free, &n_total);
        fail(KC_ERR_MEMORY, "%llu bytes of device memory are wanted on %s, which has %zu of %zu bytes free",
             static_cast<unsigned long long>(n_bytes), context.name().c_str(), n_free, n_total);
    }
    check(error, "allocating device memory");
    check(cudaMemsetAsync(memory, 0, n_bytes, context.stream()), "filling device memory");
    return memory;
}

void device_release(Context& context, void* memory) {
    context.drain();
    cudaFree(memory);
}

kc_spill* pinned_create(Context& context) {
    auto home = std::make_unique<Pinned>(context);
    home->device_chunks = static_cast<const uint8_t**>(
        device_allocate(context, static_cast<uint64_t>(kMostBytes / kPinnedChunkBytes) * sizeof(uint8_t*)));
    return home.release();
}

void pinned_reserve(kc_spill* spill, uint64_t n_bytes) {
    Pinned& home = as_pinned(spill);
    if (n_bytes <= home.reserved_bytes) return;
    home.owner.leave_record();
    if (n_bytes > static_cast<uint64_t>(kMostBytes)) {
        fail(KC_ERR_MEMORY, "the slow home is to hold %llu bytes, but holds at most %lld",
             static_cast<unsigned long long>(n_bytes), static_cast<long long>(kMostBytes));
    }
    const size_t before = home.chunks.size(), n_slabs = home.slabs.size();
    const auto held_bytes = [&] { return static_cast<uint64_t>(home.chunks.size()) * kPinnedChunkBytes; };
    while (held_bytes() < n_bytes) {
        if (add_slab(home, static_cast<int64_t>(n_bytes - held_bytes()))) continue;
        const uint64_t most = held_bytes();
        for (size_t i = n_slabs; i < home.slabs.size(); ++i) cudaFreeHost(home.slabs[i]);
        home.slabs.resize(n_slabs);
        home.chunks.resize(before);
        kc_device_info machine = {};
        cpu_device_info(0, &machine);
        fail(KC_ERR_MEMORY,
             "the slow home is to hold %llu bytes, but only %llu bytes can be pinned, in slabs as small as %lld; %llu "
             "bytes of this machine's memory are free: use a smaller context, fewer sequences or a larger fast_budget, "
             "or raise the limit of locked memory",
             static_cast<unsigned long long>(n_bytes), static_cast<unsigned long long>(most),
             static_cast<long long>(kPinnedChunkBytes), static_cast<unsigned long long>(machine.free_bytes));
    }
    if (home.chunks.size() > before) {
        std::vector<void*> seen(home.chunks.begin() + static_cast<std::ptrdiff_t>(before), home.chunks.end());
        for (void*& chunk : seen) check(cudaHostGetDevicePointer(&chunk, chunk, 0), "mapping pinned memory");
        home.owner.copy_to_device(home.device_chunks + before, seen.data(), seen.size() * sizeof seen[0]);
    }
    home.reserved_bytes = std::max(home.reserved_bytes, n_bytes);
}

void pinned_write(kc_spill* spill, const Backend::Move* moves, int64_t n) {
    const Pinned& home = as_pinned(spill);
    const cudaStream_t stream = home.owner.begin_push();
    for (int64_t i = 0; i < n; ++i) {
        in_pieces(home, moves[i], [&](void* memory, void* pinned, uint64_t n_bytes) {
            check(cudaMemcpyAsync(pinned, memory, n_bytes, cudaMemcpyDeviceToHost, stream),
                  "pushing rows to pinned memory");
        });
    }
    home.owner.end_push();
}

void pinned_read(kc_spill* spill, const Backend::Move* moves, int64_t n) {
    const Pinned& home = as_pinned(spill);
    home.owner.leave_record();
    const cudaStream_t stream = home.owner.begin_fetch();
    for (int64_t i = 0; i < n; ++i) {
        in_pieces(home, moves[i], [&](void* memory, void* pinned, uint64_t n_bytes) {
            check(cudaMemcpyAsync(memory, pinned, n_bytes, cudaMemcpyHostToDevice, stream),
                  "fetching rows from pinned memory");
        });
    }
    home.owner.fetched();
}

void pinned_read_end(kc_spill* spill) { as_pinned(spill).owner.end_fetch(); }

void pinned_destroy(kc_spill* spill) {
    std::unique_ptr<Pinned> home(&as_pinned(spill));
    device_release(home->owner, home->device_chunks);
    for (uint8_t* slab : home->slabs) cudaFreeHost(slab);
}

PinnedHome pinned_home(const kc_spill* spill) { return {static_cast<const Pinned*>(spill)->device_chunks}; }

}  // namespace kc::cuda
