// A model that is nothing but operators, small enough to be run for hundreds of steps on the machine made of software.
#pragma once

#include "cache_harness.h"

namespace harness {

inline constexpr int32_t kMostEntries = 3, kVocab = 32, kDim = 64;

inline Shape small_shape() {
    Shape shape;
    shape.n_layers = 2;
    shape.n_q_heads = 4;
    shape.head_dim = 16;
    return shape;
}

// An embedding, products with weights of 8 bits, attention, logits.
class Model {
  public:
    Model(const Context& with)
        : context_(with),
          ids_(with, std::vector<int32_t>(kMostEntries)),
          table_(with, values(kVocab * kDim, 1)),
          norm_(with, std::vector<float>(kDim, 1.f)),
          x_(with, zeros(kDim)),
          h_(with, zeros(kDim)),
          q_(with, zeros(kDim)),
          k_(with, zeros(kDim)),
          v_(with, zeros(kDim)),
          attended_(with, zeros(kDim)),
          logits_(with, zeros(kVocab)),
          weights_(with, bytes(kDim * kDim / 32 * 34, 2)) {
        // What grows forgets the records.
        must(kc_context_reserve(with.handle, kMostEntries, kDim), "kc_context_reserve");
    }

    void tell(const std::vector<int32_t>& ids) {
        must(kc_buffer_write(ids_.buffer, 0, ids.data(), ids.size() * sizeof(int32_t)), "kc_buffer_write");
    }
    void begin(int64_t n) {
        const kc_matrix table = {table_.data(), kVocab, kDim, KC_TYPE_F32, 0};
        must(kc_embed(context_.handle, &table, ids_.data(), n, x_.data()), "kc_embed");
    }
    void layer(kc_cache* cache, const Shape& shape, int32_t layer, int64_t n) {
        must(kc_rms_norm(context_.handle, x_.data(), norm_.data(), n, kDim, 1e-5f, h_.data()), "kc_rms_norm");
        multiply(shape.q_width(), layer, h_, q_, n);
        multiply(shape.kv_width(), layer + 1, h_, k_, n);
        multiply(shape.kv_width(), layer + 2, h_, v_, n);
        must(kc_cache_append(cache, layer, k_.data(), v_.data()), "kc_cache_append");
        must(kc_cache_attend(cache, layer, q_.data(), attended_.data()), "kc_cache_attend");
        must(kc_add(context_.handle, x_.data(), attended_.data(), n * kDim, x_.data()), "kc_add");
    }
    void end(int64_t n) {
        const kc_matrix table = {table_.data(), kVocab, kDim, KC_TYPE_F32, 0};
        multiply(table, x_, logits_, n);
    }
    std::vector<float> logits(int64_t n) {
        std::vector<float> read(size_t(n) * kVocab);
        must(read_logits(read), "kc_buffer_read");
        return read;
    }
    kc_status read_logits(std::vector<float>& into) {
        return kc_buffer_read(logits_.buffer, 0, into.data(), into.size() * sizeof(float));
    }

  private:
    static std::vector<float> zeros(int64_t width) { return std::vector<float>(size_t(kMostEntries * width)); }
    static std::vector<float> values(int64_t n, uint64_t seed) {
        std::vector<float> out(static_cast<size_t>(n));
        for (size_t i = 0; i < out.size(); ++i) out[i] = noise(seed * 1000003 + i);
        return out;
    }
    // Blocks of Q8_0: a scale of 2^-8 in f16, and 32 integers.
    static std::vector<uint8_t> bytes(int64_t n, uint64_t seed) {
        std::vector<uint8_t> out(static_cast<size_t>(n));
        for (size_t i = 0; i < out.size(); ++i) {
            out[i] = i % 34 == 0 ? 0 : i % 34 == 1 ? 0x1c : static_cast<uint8_t>(hash(seed * 1000003 + i));
        }
        return out;
    }
    // The layers' weights are rows of one matrix, each beginning a little later.
    void multiply(int64_t n_rows, int32_t shift, const Rows& from, const Rows& to, int64_t n) {
        const int64_t row_bytes = kDim / 32 * 34;
        multiply({weights_.data() + shift * row_bytes, n_rows - shift, kDim, KC_TYPE_Q8_0, 0}, from, to, n, n_rows);
    }
    void multiply(const kc_matrix& weight, const Rows& from, const Rows& to, int64_t n, int64_t out_stride = 0) {
        kc_matmul_params params = {};
        params.size = sizeof params;
        params.n_outputs = 1;
        params.x = from.data();
        params.n_tokens = n;
        params.n_cols = kDim;
        params.outputs[0].weight = weight;
        params.outputs[0].out = to.data();
        params.outputs[0].out_stride = out_stride;
        must(kc_matmul(context_.handle, &params), "kc_matmul");
    }

    const Context& context_;
    Array<int32_t> ids_;
    Rows table_, norm_, x_, h_, q_, k_, v_, attended_, logits_;
    Array<uint8_t> weights_;
};

}  // namespace harness
