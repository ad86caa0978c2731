// A context on a CUDA device and memory of it, owned; and how long a call takes there.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kcache.h"
#include "kcache_ops.h"

namespace bench {

// Ends the program with the library's sentence.
inline void must(kc_status status, const char* what) {
    if (status == KC_OK) return;
    std::fprintf(stderr, "%s: %s\n", what, kc_last_message());
    std::exit(1);
}

struct Context {
    kc_context* handle = nullptr;
    Context() {
        kc_context_desc desc = {};
        desc.size = sizeof desc;
        desc.backend = KC_BACKEND_CUDA;
        must(kc_context_create(&desc, &handle), "kc_context_create");
    }
    ~Context() { must(kc_context_destroy(handle), "kc_context_destroy"); }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    void sync() const { must(kc_context_sync(handle), "kc_context_sync"); }
    kc_device_info device() const {
        kc_device_info info = {};
        info.size = sizeof info;
        must(kc_device_info_get(KC_BACKEND_CUDA, 0, &info), "kc_device_info_get");
        return info;
    }
};

// Zeroed memory of the device.
class Memory {
  public:
    Memory() = default;
    Memory(const Context& context, uint64_t n_bytes) : n_bytes_(n_bytes) {
        must(kc_buffer_create(context.handle, n_bytes ? n_bytes : 1, &buffer_), "kc_buffer_create");
    }
    template <class T>
    Memory(const Context& context, const std::vector<T>& values) : Memory(context, values.size() * sizeof(T)) {
        write(values);
    }
    ~Memory() { kc_buffer_destroy(buffer_); }
    Memory(Memory&& other) noexcept : buffer_(other.buffer_), n_bytes_(other.n_bytes_) { other.buffer_ = nullptr; }
    Memory& operator=(Memory&& other) noexcept {
        std::swap(buffer_, other.buffer_);
        std::swap(n_bytes_, other.n_bytes_);
        return *this;
    }

    template <class T = uint8_t>
    T* data() const {
        return static_cast<T*>(kc_buffer_data(buffer_));
    }
    uint64_t n_bytes() const { return n_bytes_; }
    template <class T>
    void write(const std::vector<T>& values) {
        must(kc_buffer_write(buffer_, 0, values.data(), values.size() * sizeof(T)), "kc_buffer_write");
    }
    template <class T>
    std::vector<T> read() const {
        std::vector<T> values(n_bytes_ / sizeof(T));
        must(kc_buffer_read(buffer_, 0, values.data(), values.size() * sizeof(T)), "kc_buffer_read");
        return values;
    }

  private:
    kc_buffer* buffer_ = nullptr;
    uint64_t n_bytes_ = 0;
};

// Numbers about normal, variance 1, quickly.
class Noise {
  public:
    explicit Noise(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
    float next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        const uint64_t sum = (state_ & 0xffff) + (state_ >> 16 & 0xffff) + (state_ >> 32 & 0xffff) + (state_ >> 48);
        return (static_cast<float>(sum) / 65536.f - 2.f) * 1.7320508f;
    }
    std::vector<float> take(size_t n) {
        std::vector<float> values(n);
        for (float& x : values) x = next();
        return values;
    }

  private:
    uint64_t state_;
};

inline double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Seconds of one call, of many that are enqueued one behind the other: the median of five rounds of at least
// round_seconds each.
template <class F>
double seconds_per_call(const Context& context, double round_seconds, F&& call) {
    call();
    context.sync();
    std::vector<double> rounds;
    int n = 1;
    while (rounds.size() < 5) {
        const double begin = now();
        for (int i = 0; i < n; ++i) call();
        context.sync();
        const double seconds = now() - begin;
        if (seconds < round_seconds && n < 1 << 20)
            n *= 2;
        else
            rounds.push_back(seconds / n);
        if (round_seconds == 0) break;
    }
    std::nth_element(rounds.begin(), rounds.begin() + static_cast<ptrdiff_t>(rounds.size() / 2), rounds.end());
    return rounds[rounds.size() / 2];
}

}  // namespace bench
