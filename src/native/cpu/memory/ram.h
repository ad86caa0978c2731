// The fast home of the CPU backend.
#pragma once

#include <cstdint>

namespace kc {

// Zeroed, aligned to 64 bytes, to 4096 from 4096 bytes up. Throws bad_alloc. Large pieces come as untouched pages,
// which the system backs when they are first written.
void* ram_allocate(uint64_t n_bytes);
void ram_release(void* memory, uint64_t n_bytes) noexcept;

}  // namespace kc
