// What every handle hangs on: the backend, and the count of what lives. A context and all that was made from it belong
// to one thread at a time, so nothing here is atomic.
#pragma once

#include <cstdint>

#include "backend.h"

struct kc_context {
    explicit kc_context(const kc::Backend& with) : backend(with) {}
    ~kc_context() { backend.destroy(backend.self); }
    kc_context(const kc_context&) = delete;
    kc_context& operator=(const kc_context&) = delete;

    // Memory of the fast home, counted. Throws bad_alloc or kc::Error.
    void* allocate(uint64_t n_bytes) {
        void* memory = backend.allocate(backend.self, n_bytes);
        live_bytes += n_bytes;
        ++n_allocations;
        return memory;
    }

    void release(void* memory, uint64_t n_bytes) {
        if (!memory) return;
        backend.release(backend.self, memory, n_bytes);
        live_bytes -= n_bytes;
    }

    // A slow home, counted with what it holds. destroy: NULL is allowed.
    kc_spill* create_spill(const char* dir);
    void reserve(kc_spill* spill, uint64_t n_bytes);
    void destroy(kc_spill* spill);

    kc::Backend backend;
    uint64_t live_bytes = 0;
    uint64_t n_live_objects = 0;
    uint64_t n_allocations = 0;
    const void* recorder = nullptr;  // the cache whose decode step is being recorded
};

// The slow home. Backends derive their own from it.
struct kc_spill {
    kc_context* context = nullptr;
    uint64_t reserved_bytes = 0;
};

inline kc_spill* kc_context::create_spill(const char* dir) {
    kc_spill* spill = backend.spill_create(backend.self, dir);
    spill->context = this;
    ++n_live_objects;
    return spill;
}

inline void kc_context::reserve(kc_spill* spill, uint64_t n_bytes) {
    const uint64_t before = spill->reserved_bytes;
    backend.spill_reserve(spill, n_bytes);
    live_bytes += spill->reserved_bytes - before;
}

inline void kc_context::destroy(kc_spill* spill) {
    if (!spill) return;
    live_bytes -= spill->reserved_bytes;
    --n_live_objects;
    backend.spill_destroy(spill);
}
