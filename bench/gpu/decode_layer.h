// One layer of a cache with memory of its own, driven stem by stem through kcache_ops.h: what a decode step does with
// it.
#pragma once

#include "device.h"

namespace bench {

struct LayerOptions {
    int32_t n_q_heads = 32;
    int32_t n_kv_heads = 8;
    int32_t head_dim = 128;
    int32_t n_context = 65536;  // tokens of a sequence, a multiple of 64
    int32_t n_sequences = 1;
    int32_t policy = KC_POLICY_FULL;
    int32_t k_codec = KC_CODEC_F16;
    int32_t n_keep = 64;
    int32_t n_slots = 0;  // hot rows a KV head; 0: exact rows lie in device memory, and none are brought back
};

class DecodeLayer {
  public:
    DecodeLayer(const Context& context, const LayerOptions& options);
    ~DecodeLayer() { kc_spill_destroy(spill_); }
    DecodeLayer(const DecodeLayer&) = delete;
    DecodeLayer& operator=(const DecodeLayer&) = delete;

    // The stems of one step. The query walks: each step's is near the one before it.
    void next_query() { query_ = (query_ + 1) % kQueries; }
    void score();
    void select();
    void restore();
    void mix();
    void step();
    void append();       // one new token a sequence
    void prompt(int n);  // the last n tokens of sequence 0 as a prompt
    void drop_hot();

    int64_t key_bytes() const;    // of keys, as stored
    int64_t score_bytes() const;  // of scores, as written
    int64_t value_bytes() const;  // of values or their copy, as stored
    int64_t row_bytes() const { return layer_.exact.row_bytes; }
    int64_t rows_restored() const;  // by the last restore
    int64_t rows_hot() const;
    const LayerOptions options;

  private:
    static constexpr int kQueries = 64;
    static constexpr int kChunkPages = 16;
    static constexpr int kSinks = 4, kRecent = 32;

    void make_store(kc_store& store, int32_t codec, Memory& base, Memory& first, Memory& centre);
    void fill();
    void copy_to_all(const kc_store& store);
    kc_wave wave() const;
    bool selects() const { return options.policy != KC_POLICY_FULL; }

    const Context& context_;
    int32_t n_pages_;
    kc_layer_view layer_ = {};
    kc_spill* spill_ = nullptr;
    kc_hot_store hot_ = {};
    std::vector<std::vector<kc_page_view>> pages_;
    std::vector<kc_sequence_view> sequences_;
    std::vector<kc_query_view> queries_;
    int64_t kept_stride_ = 0;
    int query_ = 0;
    Memory k_, k_first_, k_centre_, v_, v_first_, v_centre_, exact_, hot_rows_, hot_state_;
    Memory q_, out_, rows_in_, nonfinite_rows_;
    Memory weights_, reference_, mass_, nonfinite_, kept_, n_kept_, n_selected_, tail_, error_, missed_;
    Memory staging_, rows_, n_restored_, n_hot_, scratch_, restore_scratch_;
};

}  // namespace bench
