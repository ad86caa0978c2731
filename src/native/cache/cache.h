// The key/value cache: sequences of pages, and forwards that run through all layers.
//
//   cache.cpp     life and sequences
//   forward.cpp   begin, commit, rollback: the only places where lengths and pages change
//   attend.cpp    append and attend: the straight line
//   replay.cpp    whole decode steps, recorded and replayed
#pragma once

#include <memory>

#include "cache/layout.h"
#include "cache/page_pool.h"
#include "cache/wave.h"
#include "core/context.h"

namespace kc {

class Cache {
  public:
    static void plan(const Backend& backend, const kc_cache_desc& desc, kc_memory* out);

    Cache(kc_context& context, const kc_cache_desc& desc);
    ~Cache();
    Cache(const Cache&) = delete;
    Cache& operator=(const Cache&) = delete;

    void usage(kc_memory* out) const;

    int32_t create_sequence();
    int32_t fork_sequence(int32_t source);
    void truncate_sequence(int32_t sequence, int32_t n_tokens);
    void free_sequence(int32_t sequence);
    int32_t sequence_length(int32_t sequence);

    void begin(const kc_batch_entry* entries, int32_t n_entries);
    void append(int32_t layer, const float* k, const float* v);
    void attend(int32_t layer, const float* q, float* out);
    bool begin_replay(uint64_t key);
    void end_replay();
    void commit();
    void rollback();

    void statistics(int32_t layer, kc_statistics* out) const;
    void reset_statistics();

  private:
    void check_idle(const char* call) const;
    Sequence& open_sequence(int32_t sequence);
    int32_t closed_sequence();
    void release_pages(Sequence& sequence, int32_t n_pages_left);
    void drop_hot(int32_t sequence, int32_t first_token);

    void check_batch(const kc_batch_entry* entries, int32_t n_entries);
    void extend(const kc_batch_entry& entry);
    void add_page(Sequence& sequence, int32_t position);
    void own_last_page(Sequence& sequence, Entry& entry);
    [[noreturn]] void fail_pool(const Sequence& sequence) const;
    void undo();
    void build_frame();
    void build_waves();
    bool is_recording() const { return context_.recorder == this; }
    void drop_record();
    void forget(Sequence& sequence);

    void check_layer(const char* call, int32_t layer, bool appended) const;
    void attend_prompts(const LayerPlan& plan, const float* q, float* out);
    void leave_unattended();
    void read_prompt_rows(const LayerPlan& plan, const kc_sequence_view& view, int32_t head);
    WaveCall wave_of(int32_t layer, int32_t wave, const float* q, float* out) const;
    bool is_spilled(const kc_wave& wave) const;
    void attend_wave(WaveCall call) const;
    void count_odd_rows(int32_t layer, kc_statistics& statistics);
    void count_at_end();
    void forget_counts();
    void see_counts(int32_t first_layer, int32_t n_layers);

    kc_context& context_;
    const CacheShape shape_;
    void* memory_ = nullptr;
    std::unique_ptr<uint64_t[]> host_memory_;  // bookkeeping, where the host does not see fast memory
    Layout layout_ = {};
    kc_spill* spill_ = nullptr;
    std::unique_ptr<PagePool> pool_;

    // The forward under way.
    bool in_forward_ = false;
    bool appended_ = false;  // next_layer_ has its rows
    int32_t next_layer_ = 0;
    int32_t n_entries_ = 0;
    int32_t n_prompts_ = 0;
    int32_t n_waves_ = 0;
    int64_t token_stride_ = 0;
    uint64_t n_steps_ = 0;  // decode tokens committed
};

}  // namespace kc
