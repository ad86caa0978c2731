// One layer of a cache with sequences of random rows, for tests of the cache's stems. What was never written holds NaN;
// pages and exact slots lie in shuffled order. Keeps every row as floats, as the reference sees it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/params.h"
#include "cpu/context.h"
#include "cpu/kernels/layout.h"
#include "cpu/memory/spill.h"
#include "isa_list.h"

namespace kc_test {

struct CacheShape {
    int n_q_heads;
    int n_kv_heads;
    int head_dim;
    int32_t k_codec = KC_CODEC_F16;
    int32_t v_codec = KC_CODEC_F16;  // 0: no copy of values beside the exact rows
    bool exact = false;
    bool exact_has_k = false;
    int32_t exact_codec = KC_CODEC_F16;
    int group() const { return n_q_heads / n_kv_heads; }
};

struct TestContext {
    kc::CpuContext cpu;
    TestContext(const kc::Kernels* kernels, int n_threads) : cpu(n_threads) { cpu.kernels = kernels; }
};

// Memory that holds NaN as f16 and as f32.
inline std::vector<uint8_t> poisoned(size_t n_bytes) { return std::vector<uint8_t>(n_bytes, 0xff); }

class CacheCase {
  public:
    CacheShape shape;
    kc_layer_view layer = {};
    std::vector<kc_sequence_view> sequences;
    // [sequence][(token * n_kv_heads + head) * head_dim + d]: rows as given
    std::vector<std::vector<float>> k, v;
    uint64_t n_nonfinite = 0;
    std::mt19937 random;

    CacheCase(const CacheShape& with, int n_sequences, int n_pages_each, unsigned seed = 1)
        : shape(with), random(seed), n_pages_each_(n_pages_each) {
        const int n_pool = n_sequences * n_pages_each;
        const size_t heads = static_cast<size_t>(shape.n_kv_heads);
        const auto block = [&](int32_t codec) { return kc::block_bytes(codec, shape.head_dim); };
        layer.n_q_heads = shape.n_q_heads;
        layer.n_kv_heads = shape.n_kv_heads;
        layer.head_dim = shape.head_dim;
        layer.scale = 1.f / std::sqrt(static_cast<float>(shape.head_dim));
        const auto make_store = [&](kc_store& store, int32_t codec, bool first, int at) {
            store.codec = codec;
            if (codec != 0) {
                memory_[at] = poisoned(heads * block(codec) * static_cast<size_t>(n_pool));
                store.base = memory_[at].data();
                store.page_stride_bytes = static_cast<int64_t>(heads * block(codec));
            }
            if (!first) return;
            memory_[at + 1] = poisoned(heads * block(KC_CODEC_F16) * static_cast<size_t>(n_sequences));
            store.first = memory_[at + 1].data();
            store.first_stride_bytes = static_cast<int64_t>(heads * block(KC_CODEC_F16));
            centres_[at / 2].assign(heads * static_cast<size_t>(shape.head_dim * n_sequences), NAN);
            store.centre = centres_[at / 2].data();
            store.centre_stride = static_cast<int64_t>(heads) * shape.head_dim;
        };
        make_store(layer.k, shape.k_codec, shape.k_codec != KC_CODEC_F16, 0);
        const bool coded_v =
            (shape.v_codec != 0 && shape.v_codec != KC_CODEC_F16) || (shape.exact && shape.exact_codec != KC_CODEC_F16);
        make_store(layer.v, shape.v_codec, coded_v, 2);
        if (shape.exact) {
            kc_exact_store& exact = layer.exact;
            exact.has_k = shape.exact_has_k;
            exact.v_codec = shape.exact_codec;
            exact.row_bytes = (shape.exact_has_k ? 2 : 0) * shape.head_dim +
                              (shape.exact_codec == KC_CODEC_Q8 ? 1 : 2) * shape.head_dim;
            exact.slot_stride_bytes = static_cast<int64_t>(heads) * 64 * exact.row_bytes;
            memory_[4] = poisoned(static_cast<size_t>(exact.slot_stride_bytes * n_pool));
            exact.base = memory_[4].data();
            scales_.assign(heads * 64 * static_cast<size_t>(n_pool), 0xffff);
            exact.scales = scales_.data();
            exact.scale_stride = static_cast<int64_t>(heads) * 64;
        }
        std::vector<int32_t> ids(static_cast<size_t>(n_pool)), slots(ids.size());
        for (int i = 0; i < n_pool; ++i) ids[static_cast<size_t>(i)] = slots[static_cast<size_t>(i)] = i;
        std::shuffle(ids.begin(), ids.end(), random);
        std::shuffle(slots.begin(), slots.end(), random);
        pages_.resize(static_cast<size_t>(n_sequences));
        k.resize(pages_.size());
        v.resize(pages_.size());
        for (int s = 0; s < n_sequences; ++s) {
            for (int p = 0; p < n_pages_each; ++p) {
                const size_t at = static_cast<size_t>(s * n_pages_each + p);
                pages_[static_cast<size_t>(s)].push_back({p * 64, ids[at], slots[at]});
            }
            kc_sequence_view view = {};
            view.pages = pages_[static_cast<size_t>(s)].data();
            view.first_page = layer.k.first != nullptr || layer.v.first != nullptr ? s : -1;
            view.hot = s;
            sequences.push_back(view);
        }
    }

    int n_tokens(int s) const {
        return static_cast<int>(k[static_cast<size_t>(s)].size()) / (shape.n_kv_heads * shape.head_dim);
    }

    std::vector<float> normal(size_t n, float scale = 1.f) {
        std::normal_distribution<float> distribution(0.f, scale);
        std::vector<float> x(n);
        for (float& f : x) f = distribution(random);
        return x;
    }

    // Appends given rows [n, n_kv_heads, head_dim] to one sequence and sets its view to this forward.
    void append(kc::CpuContext& context, int s, const std::vector<float>& new_k, const std::vector<float>& new_v) {
        const size_t at = static_cast<size_t>(s);
        const int past = n_tokens(s);
        k[at].insert(k[at].end(), new_k.begin(), new_k.end());
        v[at].insert(v[at].end(), new_v.begin(), new_v.end());
        kc_sequence_view& view = sequences[at];
        view.first_row = 0;
        view.n_past = past;
        view.n_rows = n_tokens(s) - past;
        view.n_pages = (n_tokens(s) + 63) / 64;
        const bool coded = layer.k.first != nullptr || layer.v.first != nullptr;
        view.set_centre = coded && ((past < 64 && n_tokens(s) >= 64) || past == 64);
        kc_kv_append_params params = {};
        params.n_sequences = 1;
        params.layer = &layer;
        params.sequences = &view;
        params.k = new_k.data();
        params.v = new_v.data();
        params.n_nonfinite = &n_nonfinite;
        kc::kv_append(context, params);
        view.set_centre = 0;
    }

    void append_random(kc::CpuContext& context, int s, int n, float scale = 1.f) {
        const size_t n_floats = static_cast<size_t>(n * shape.n_kv_heads * shape.head_dim);
        const std::vector<float> new_k = normal(n_floats, scale), new_v = normal(n_floats, scale);
        append(context, s, new_k, new_v);
    }

    kc_page_view& page(int s, int p) { return pages_[static_cast<size_t>(s)][static_cast<size_t>(p)]; }

    // Moves the exact rows of a page to the spill file and poisons its fast slot.
    void spill_page(int s, int p) {
        if (!spill_) {
            spill_ = std::make_unique<kc::Spill>(nullptr);
            layer.exact.spill = spill_.get();
            // Not a multiple of anything, as later layers' planes would be.
            layer.exact.spill_offset_bytes = 4096;
            layer.exact.spill_stride_bytes = kc::round_up(layer.exact.slot_stride_bytes, 4096);
            spill_->reserve(static_cast<uint64_t>(4096 + layer.exact.spill_stride_bytes *
                                                             static_cast<int64_t>(pages_.size()) * n_pages_each_));
        }
        kc_page_view& view = page(s, p);
        uint8_t* rows = layer.exact.base + view.exact * layer.exact.slot_stride_bytes;
        const int32_t to = n_spilled_++;
        const kc::Backend::Move move = {
            rows, static_cast<uint64_t>(layer.exact.spill_offset_bytes + to * layer.exact.spill_stride_bytes),
            static_cast<uint64_t>(layer.exact.slot_stride_bytes)};
        spill_->write(&move, 1);
        std::memset(rows, 0xff, static_cast<size_t>(layer.exact.slot_stride_bytes));
        view.exact = ~to;
    }

    kc::Spill* spill() { return spill_.get(); }

    const float* key(int s, int token, int head) const {
        return k[static_cast<size_t>(s)].data() + (token * shape.n_kv_heads + head) * shape.head_dim;
    }
    const float* value(int s, int token, int head) const {
        return v[static_cast<size_t>(s)].data() + (token * shape.n_kv_heads + head) * shape.head_dim;
    }

  private:
    int n_pages_each_;
    int32_t n_spilled_ = 0;
    std::vector<std::vector<kc_page_view>> pages_;
    std::vector<uint8_t> memory_[5];
    std::vector<float> centres_[2];
    std::vector<uint16_t> scales_;
    std::unique_ptr<kc::Spill> spill_;
};

// f16 rounding as the stores do it.
inline float rounded(const kc::Kernels* kernels, float x) {
    float in[16] = {x}, out[16];
    uint16_t half[16];
    kernels->codec.to_f16(in, 16, half);
    kernels->codec.from_f16(half, 16, out);
    return out[0];
}
inline void round_all(const kc::Kernels* kernels, std::vector<float>& x) {
    std::vector<uint16_t> half(x.size());
    kernels->codec.to_f16(x.data(), static_cast<int64_t>(x.size()), half.data());
    kernels->codec.from_f16(half.data(), static_cast<int64_t>(x.size()), x.data());
}

}  // namespace kc_test
