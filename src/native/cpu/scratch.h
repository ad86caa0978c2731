// Memory that a context lends to one kernel at a time: it grows when a larger shape than ever arrives, and never
// shrinks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace kc {

class Scratch {
  public:
    static constexpr size_t kAlignment = 64;

    Scratch() = default;
    ~Scratch() { release(); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    // At least n_bytes, aligned to 64; what it held before is gone when it grows. Throws std::bad_alloc.
    uint8_t* reserve(uint64_t n_bytes) {
        if (n_bytes > n_bytes_) {
            release();
            data_ = static_cast<uint8_t*>(::operator new (n_bytes, std::align_val_t{kAlignment}));
            n_bytes_ = n_bytes;
            ++n_allocations_;
        }
        return data_;
    }

    uint64_t n_bytes() const { return n_bytes_; }
    uint64_t n_allocations() const { return n_allocations_; }

  private:
    void release() {
        ::operator delete (data_, std::align_val_t{kAlignment});
        data_ = nullptr;
        n_bytes_ = 0;
    }

    uint8_t* data_ = nullptr;
    uint64_t n_bytes_ = 0;
    uint64_t n_allocations_ = 0;
};

}  // namespace kc
