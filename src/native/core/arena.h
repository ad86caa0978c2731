// Hands out pieces of one block of memory. A plan is measured and carved by the same code: without a base the pieces
// are addresses that must not be touched, and only their sum counts.
#pragma once

#include <cstdint>

#include "error.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace kc {

class Arena {
  public:
    static constexpr uint64_t kAlignment = 64;

    Arena() = default;  // measures
    explicit Arena(void* base) : base_(reinterpret_cast<uintptr_t>(base)) {}

    template <class T>
    T* take(uint64_t count, uint64_t alignment = kAlignment) {
        return static_cast<T*>(take_bytes(product(count, sizeof(T)), alignment));
    }

    uint64_t used() const { return used_; }

    // a * b, or an Error where no memory could hold it.
    static uint64_t product(uint64_t a, uint64_t b) {
        if (b != 0 && a > kMost / b) fail_size();
        return a * b;
    }

  private:
    static constexpr uint64_t kMost = uint64_t(1) << 56;

    [[noreturn]] static void fail_size() {
        fail(KC_ERR_ARGUMENT,
             "a cache of this shape takes more than %llu bytes, which no machine has: ask for fewer tokens or "
             "sequences",
             static_cast<unsigned long long>(kMost));
    }

    void* take_bytes(uint64_t n_bytes, uint64_t alignment) {
        const uint64_t at = (used_ + alignment - 1) / alignment * alignment;
        if (n_bytes > kMost || at > kMost - n_bytes) fail_size();
        used_ = at + n_bytes;
        guard();
        return reinterpret_cast<void*>(base_ + static_cast<uintptr_t>(at));
    }

    // Under AddressSanitizer a gap behind every piece that must not be touched.
    void guard() {
#if defined(__SANITIZE_ADDRESS__)
        if (base_ != kNowhere) __asan_poison_memory_region(reinterpret_cast<void*>(base_ + used_), kAlignment);
        used_ += kAlignment;
#endif
    }

    static constexpr uintptr_t kNowhere = 4096;  // measures

    uintptr_t base_ = kNowhere;
    uint64_t used_ = 0;
};

}  // namespace kc
