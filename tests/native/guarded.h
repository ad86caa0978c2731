// An array between poisoned margins: a kernel that reads outside gets NaN into its result, one that writes outside is
// found.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace kc_test {

class GuardedFloats {
  public:
    // The array begins `offset` floats behind a 64-byte boundary's arbitrary place, so that no alignment is given.
    explicit GuardedFloats(int64_t n, float value = std::numeric_limits<float>::quiet_NaN(), int64_t offset = 0)
        : n_(n), begin_(kMargin + offset), storage_(static_cast<size_t>(n + begin_ + kMargin), poison()) {
        for (int64_t i = 0; i < n; ++i) data()[i] = value;
    }

    float* data() { return storage_.data() + begin_; }
    const float* data() const { return storage_.data() + begin_; }
    float& operator[](int64_t i) { return data()[i]; }
    float operator[](int64_t i) const { return data()[i]; }
    int64_t size() const { return n_; }

    // Nothing was written outside the array.
    bool margins_intact() const {
        const float p = poison();
        for (int64_t i = 0; i < static_cast<int64_t>(storage_.size()); ++i) {
            if (i >= begin_ && i < begin_ + n_) continue;
            if (std::memcmp(&storage_[static_cast<size_t>(i)], &p, sizeof p) != 0) return false;
        }
        return true;
    }

  private:
    static constexpr int64_t kMargin = 67;
    // A NaN with bits of its own.
    static float poison() {
        const uint32_t bits = 0x7fc0dead;
        float f;
        std::memcpy(&f, &bits, sizeof f);
        return f;
    }

    int64_t n_;
    int64_t begin_;
    std::vector<float> storage_;
};

}  // namespace kc_test
