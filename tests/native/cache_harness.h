// A small made-up model whose rows follow from token ids alone, and caches driven through the C ABI. What a forward
// gives is compared bit for bit between caches that hold the same tokens in different ways.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "kcache.h"
#include "kcache_ops.h"

namespace harness {

// Ends the test: what follows would only be noise.
inline void must(kc_status status, const char* what) {
    if (status == KC_OK) return;
    std::fprintf(stderr, "%s: status %d: %s\n", what, status, kc_last_message());
    std::exit(1);
}

struct Shape {
    int32_t n_layers = 3;
    int32_t n_q_heads = 6;
    int32_t n_kv_heads = 2;
    int32_t head_dim = 32;
    int64_t kv_width() const { return int64_t(n_kv_heads) * head_dim; }
    int64_t q_width() const { return int64_t(n_q_heads) * head_dim; }
};

inline uint64_t hash(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// About normal, variance 1.
inline float noise(uint64_t key) {
    float sum = 0;
    const uint64_t bits = hash(key);
    for (int i = 0; i < 4; ++i) sum += static_cast<float>((bits >> (16 * i)) & 0xffff) / 65536.0f - 0.5f;
    return sum * 1.7320508f;
}

// Row `what` (0 k, 1 v, 2 q) of a token in a layer. Keys share an offset, as those of real models do, and queries are
// strong enough to make the softmax uneven.
inline void fill_row(int what, uint32_t token, int32_t layer, int64_t width, float* out) {
    const uint64_t key = hash((uint64_t(token) << 20) ^ (uint64_t(layer) << 4) ^ uint64_t(what));
    const float scale = what == 2 ? 2.0f : 1.0f;
    for (int64_t i = 0; i < width; ++i) {
        const float offset = what == 2 ? 0.0f : noise(hash(uint64_t(i) * 7 + uint64_t(what) + 1));
        out[i] = scale * noise(key + static_cast<uint64_t>(i)) + offset;
    }
}

// KCACHE_TEST_BACKEND=cuda runs the same tests there.
inline int32_t tested_backend() {
    const char* name = std::getenv("KCACHE_TEST_BACKEND");
    return name && std::strcmp(name, "cuda") == 0 ? KC_BACKEND_CUDA : KC_BACKEND_CPU;
}

// KCACHE_TEST_SWEEP=small: fewer and shorter cases, for machines on which kernels are slow.
inline bool small_sweep() {
    const char* sweep = std::getenv("KCACHE_TEST_SWEEP");
    return sweep && std::strcmp(sweep, "small") == 0;
}

struct Context {
    kc_context* handle = nullptr;
    explicit Context(int32_t n_threads = 1, int32_t backend = tested_backend()) {
        kc_context_desc desc = {};
        desc.size = sizeof desc;
        desc.backend = backend;
        desc.n_threads = n_threads;
        must(kc_context_create(&desc, &handle), "kc_context_create");
    }
    ~Context() { must(kc_context_destroy(handle), "kc_context_destroy"); }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    kc_context_info info() const {
        kc_context_info info = {};
        info.size = sizeof info;
        must(kc_context_info_get(handle, &info), "kc_context_info_get");
        return info;
    }
};

// Numbers where the context's kernels find them.
template <class T>
struct Array {
    kc_buffer* buffer = nullptr;
    Array(const Context& context, const std::vector<T>& values) {
        const uint64_t n_bytes = values.size() * sizeof(T);
        must(kc_buffer_create(context.handle, n_bytes, &buffer), "kc_buffer_create");
        must(kc_buffer_write(buffer, 0, values.data(), n_bytes), "kc_buffer_write");
    }
    ~Array() { kc_buffer_destroy(buffer); }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    T* data() const { return static_cast<T*>(kc_buffer_data(buffer)); }
    void read(std::vector<T>& into) const {
        must(kc_buffer_read(buffer, 0, into.data(), into.size() * sizeof(T)), "kc_buffer_read");
    }
};
using Rows = Array<float>;

inline kc_cache_desc describe(const Shape& shape, int32_t policy, int32_t n_context) {
    kc_cache_desc desc = {};
    desc.size = sizeof desc;
    desc.n_layers = shape.n_layers;
    desc.n_q_heads = shape.n_q_heads;
    desc.n_kv_heads = shape.n_kv_heads;
    desc.head_dim = shape.head_dim;
    desc.n_context = n_context;
    desc.policy = policy;
    desc.n_recent = 8;
    return desc;
}

inline kc_memory plan(const Context& context, const kc_cache_desc& desc) {
    kc_memory memory = {};
    memory.size = sizeof memory;
    must(kc_cache_memory(context.handle, &desc, &memory), "kc_cache_memory");
    return memory;
}

struct Work {
    int32_t sequence;
    std::vector<uint32_t> tokens;
    int32_t kind;
};

struct Cache {
    kc_cache* handle = nullptr;
    const Context& context;
    Shape shape;

    Cache(const Context& in, const Shape& with, const kc_cache_desc& desc) : context(in), shape(with) {
        must(kc_cache_create(context.handle, &desc, &handle), "kc_cache_create");
    }
    ~Cache() { kc_cache_destroy(handle); }
    Cache(const Cache&) = delete;
    Cache& operator=(const Cache&) = delete;

    int32_t open() {
        int32_t sequence = -1;
        must(kc_sequence_create(handle, &sequence), "kc_sequence_create");
        return sequence;
    }

    kc_status begin(const std::vector<Work>& batch) {
        std::vector<kc_batch_entry> entries;
        for (const Work& work : batch) {
            entries.push_back({work.sequence, static_cast<int32_t>(work.tokens.size()), work.kind});
        }
        return kc_cache_begin(handle, entries.data(), static_cast<int32_t>(entries.size()));
    }

    // Appends and attends one layer; returns its rows of out.
    std::vector<float> layer(const std::vector<Work>& batch, int32_t layer) {
        std::vector<uint32_t> tokens;
        for (const Work& work : batch) tokens.insert(tokens.end(), work.tokens.begin(), work.tokens.end());
        std::vector<float> k(tokens.size() * size_t(shape.kv_width())), v(k.size());
        std::vector<float> q(tokens.size() * size_t(shape.q_width())), out(q.size(), NAN);
        for (size_t t = 0; t < tokens.size(); ++t) {
            fill_row(0, tokens[t], layer, shape.kv_width(), &k[t * size_t(shape.kv_width())]);
            fill_row(1, tokens[t], layer, shape.kv_width(), &v[t * size_t(shape.kv_width())]);
            fill_row(2, tokens[t], layer, shape.q_width(), &q[t * size_t(shape.q_width())]);
        }
        const Rows device_k(context, k), device_v(context, v), device_q(context, q), device_out(context, out);
        must(kc_cache_append(handle, layer, device_k.data(), device_v.data()), "kc_cache_append");
        must(kc_cache_attend(handle, layer, device_q.data(), device_out.data()), "kc_cache_attend");
        device_out.read(out);
        return out;
    }

    // A whole forward; rows of out, layer behind layer.
    std::vector<float> run(const std::vector<Work>& batch, bool commit = true) {
        must(begin(batch), "kc_cache_begin");
        std::vector<float> all;
        for (int32_t l = 0; l < shape.n_layers; ++l) {
            const std::vector<float> out = layer(batch, l);
            all.insert(all.end(), out.begin(), out.end());
        }
        must(commit ? kc_cache_commit(handle) : kc_cache_rollback(handle), "kc_cache_commit or rollback");
        return all;
    }

    // A prompt in windows; rows of the last window.
    void prompt(int32_t sequence, const std::vector<uint32_t>& tokens, size_t window = 100) {
        for (size_t at = 0; at < tokens.size(); at += window) {
            const size_t end = std::min(tokens.size(), at + window);
            run({{sequence, {tokens.begin() + long(at), tokens.begin() + long(end)}, KC_ENTRY_PROMPT}});
        }
    }

    kc_statistics statistics(int32_t layer = -1) const {
        kc_statistics statistics = {};
        statistics.size = sizeof statistics;
        must(kc_cache_statistics(handle, layer, &statistics), "kc_cache_statistics");
        return statistics;
    }
};

// Decode steps whose rows lie at addresses that stay, so that a backend may record and replay them.
class Steps {
  public:
    Steps(Cache& cache, size_t n_entries) : cache_(cache) {
        const Shape& shape = cache.shape;
        for (int32_t layer = 0; layer < shape.n_layers; ++layer) {
            for (const int64_t width : {shape.kv_width(), shape.kv_width(), shape.q_width(), shape.q_width()}) {
                rows_.push_back(
                    std::make_unique<Rows>(cache.context, std::vector<float>(n_entries * size_t(width), NAN)));
            }
        }
    }

    // One new token of each; rows of out, layer behind layer.
    std::vector<float> run(const std::vector<Work>& batch) {
        const Shape& shape = cache_.shape;
        for (int32_t layer = 0; layer < shape.n_layers; ++layer) {
            for (int what = 0; what < 3; ++what) {
                const int64_t width = what == 2 ? shape.q_width() : shape.kv_width();
                std::vector<float> values(batch.size() * size_t(width));
                for (size_t i = 0; i < batch.size(); ++i)
                    fill_row(what, batch[i].tokens[0], layer, width, &values[i * size_t(width)]);
                must(kc_buffer_write(rows(layer, what).buffer, 0, values.data(), values.size() * sizeof(float)),
                     "kc_buffer_write");
            }
        }
        must(cache_.begin(batch), "kc_cache_begin");
        int32_t replayed = 0;
        must(kc_cache_replay_begin(cache_.handle, 0, &replayed), "kc_cache_replay_begin");
        for (int32_t layer = 0; layer < shape.n_layers && !replayed; ++layer) {
            must(kc_cache_append(cache_.handle, layer, rows(layer, 0).data(), rows(layer, 1).data()),
                 "kc_cache_append");
            must(kc_cache_attend(cache_.handle, layer, rows(layer, 2).data(), rows(layer, 3).data()),
                 "kc_cache_attend");
        }
        must(kc_cache_replay_end(cache_.handle), "kc_cache_replay_end");
        must(kc_cache_commit(cache_.handle), "kc_cache_commit");
        n_replayed += uint64_t(replayed);
        std::vector<float> all;
        for (int32_t layer = 0; layer < shape.n_layers; ++layer) {
            std::vector<float> out(batch.size() * size_t(shape.q_width()));
            must(kc_buffer_read(rows(layer, 3).buffer, 0, out.data(), out.size() * sizeof(float)), "kc_buffer_read");
            all.insert(all.end(), out.begin(), out.end());
        }
        return all;
    }

    uint64_t n_replayed = 0;

  private:
    const Rows& rows(int32_t layer, int what) const { return *rows_[size_t(layer * 4 + what)]; }

    Cache& cache_;
    std::vector<std::unique_ptr<Rows>> rows_;
};

inline std::vector<uint32_t> text(size_t n, uint32_t seed) {
    std::vector<uint32_t> tokens(n);
    for (size_t i = 0; i < n; ++i) tokens[i] = static_cast<uint32_t>(hash(seed * 1000003u + i) & 0xffffff);
    return tokens;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline bool all_finite(const std::vector<float>& x) {
    for (const float f : x) {
        if (!std::isfinite(f)) return false;
    }
    return true;
}

// A policy with its numbers, to be swept over.
struct Variant {
    const char* name;
    int32_t policy;
    int32_t k_codec;
    int32_t v_codec;
    int32_t n_keep;
    int32_t n_dense_layers;
    int32_t select;
    int32_t mode;
    float max_tail;
};

inline void apply(const Variant& variant, kc_cache_desc& desc) {
    desc.policy = variant.policy;
    desc.k_codec = variant.k_codec;
    desc.v_codec = variant.v_codec;
    desc.n_keep = variant.n_keep;
    desc.n_dense_layers = variant.n_dense_layers;
    desc.select = variant.select;
    desc.mode = variant.mode;
    desc.max_tail = variant.max_tail;
    desc.n_sink = 4;
    // A kept set that may hold everything needs staging for everything, and that leaves little to spill in small
    // caches.
    if (variant.max_tail > 0) desc.n_keep_max = 60;
}

// Arguments of a test program name the variants to run; none: all.
inline bool wanted(const Variant& variant, int argc, char** argv, int first) {
    for (int i = first; i < argc; ++i) {
        if (std::strstr(variant.name, argv[i])) return true;
    }
    return argc <= first;
}

}  // namespace harness
