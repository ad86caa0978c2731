// The seam between the cache and the hardware: a table of functions that each backend fills once. Nothing above it
// knows which backend it drives. Functions throw kc::Error; shapes and pointers were checked by api/.
#pragma once

#include "params.h"

namespace kc {

struct Backend {
    void* self;    // the backend's own context
    int32_t kind;  // KC_BACKEND_CPU or KC_BACKEND_CUDA
    void (*destroy)(void* self);
    void (*info)(void* self, kc_context_info* out);  // fills backend, n_threads, activations, isa, device
    void (*sync)(void* self);
    void (*reserve)(void* self, int64_t n_tokens, int64_t n_cols);
    void* (*stream)(void* self);  // of CUDA; else NULL

    // True where the host may read and write the fast home in place (a CPU); else it needs the copies below.
    bool host_sees_fast;

    // Fast home. allocate: zeroed, aligned to 64 bytes, to 4096 from 4096 bytes up.
    void* (*allocate)(void* self, uint64_t n_bytes);
    void (*release)(void* self, void* memory, uint64_t n_bytes);
    void (*copy_to_device)(void* self, void* to, const void* host, uint64_t n_bytes);
    void (*copy_to_host)(void* self, void* host, const void* from, uint64_t n_bytes);
    void (*copy)(void* self, void* to, const void* from, uint64_t n_bytes);  // within the fast home
    void (*fill)(void* self, void* to, uint8_t value, uint64_t n_bytes);

    // Slow home. takes_slow_home: it is memory, all of which a cache takes when it is created; a file grows with use.
    bool takes_slow_home;
    kc_spill* (*spill_create)(void* self, const char* dir);
    void (*spill_reserve)(kc_spill* spill, uint64_t n_bytes);
    // Writes and reads that may run side by side. Both may return while they are under way: fast memory that is written
    // may be used again at once, what was read is there for whatever is called behind spill_read_end.
    struct Move {
        void* memory;
        uint64_t offset_bytes;
        uint64_t n_bytes;
    };
    void (*spill_write)(kc_spill* spill, const Move* moves, int64_t n);
    void (*spill_read)(kc_spill* spill, const Move* moves, int64_t n);
    void (*spill_read_end)(kc_spill* spill);
    void (*spill_destroy)(kc_spill* spill);

    // A decode step is, from the embedding to the logits, the same calls at every step of its shape: a backend may
    // record them and replay the record. replay_begin: `wave` is the step's, with the first layer's view; key stands
    // for the calls beside the cache; spilled and sets_centre are what the cache's own calls depend on besides. True:
    // all of it is enqueued. False: the caller makes the calls, and then replay_end (keep: they were all of the step's)
    // or replay_drop (what was recorded shall not run). replay_forget: the layers of a cache are about to go. A backend
    // with records counts where the host does not see it. NULL, all four: this backend has none.
    bool (*replay_begin)(void* self, const kc_wave& wave, uint64_t key, bool spilled, bool sets_centre);
    void (*replay_end)(void* self, bool keep);
    void (*replay_drop)(void* self);
    void (*replay_forget)(void* self, const kc_layer_view* layers);
    // Waves have a token_stride that is a multiple of this, up to that of a whole context.
    int32_t token_stride_unit;

    // Stems.
    void (*rms_norm)(void* self, const float* x, const float* weight, int64_t n_tokens, int64_t dim, float eps,
                     float* out);
    void (*rope_table)(void* self, const int32_t* positions, const float* inv_freq, int64_t n_tokens, int64_t n_pairs,
                       float magnitude, float* out);
    void (*rope)(void* self, const float* table, int64_t n_tokens, int64_t n_heads, int64_t head_dim, int64_t n_pairs,
                 int32_t pairing, float* x);
    void (*swiglu)(void* self, const float* gate, const float* up, int64_t n, float* out);
    void (*add)(void* self, const float* a, const float* b, int64_t n, float* out);
    void (*embed)(void* self, const kc_matrix& table, const int32_t* ids, int64_t n_tokens, float* out);
    void (*softmax)(void* self, const float* x, int64_t n_rows, int64_t n_cols, float* out);
    void (*argmax)(void* self, const float* x, int64_t n_rows, int64_t n_cols, int32_t* out);
    void (*matmul)(void* self, const kc_matmul_params& params);
    void (*matrix_expand)(void* self, const kc_matrix& weight, int64_t first_row, int64_t n_rows, float* out);
    void (*kv_append)(void* self, const kc_kv_append_params& params);
    void (*kv_decode)(void* self, const kc_layer_view& layer, const kc_sequence_view& sequence, bool is_v,
                      int32_t kv_head, int32_t first_token, int32_t n_tokens, float* out);
    void (*attention_full)(void* self, const kc_attention_full_params& params);
    void (*attention_score)(void* self, const kc_attention_score_params& params);
    void (*select_topn)(void* self, const kc_select_topn_params& params);
    void (*hot_drop)(void* self, const kc_hot_store& hot, int32_t n_kv_heads, int32_t slot, int32_t first_token);
    void (*row_restore_begin)(void* self, const kc_row_restore_params& params);
    void (*row_restore_end)(void* self, const kc_row_restore_params& params);
    void (*attention_mix)(void* self, const kc_attention_mix_params& params);

    // Sizes, for the plan.
    uint64_t (*block_bytes)(int32_t codec, int32_t head_dim);
    uint64_t (*hot_state_bytes)(int32_t n_slots);
    uint64_t (*attention_full_scratch_bytes)(void* self, const kc_layer_view& layer, int64_t n_context);
    uint64_t (*attention_score_scratch_bytes)(void* self, const kc_layer_view& layer, int64_t n_queries,
                                              int64_t token_stride);
    uint64_t (*select_topn_scratch_bytes)(void* self, const kc_layer_view& layer, int64_t n_queries,
                                          int64_t token_stride);
    uint64_t (*row_restore_scratch_bytes)(void* self, const kc_layer_view& layer, int64_t n_queries,
                                          int64_t kept_stride);
    uint64_t (*attention_mix_scratch_bytes)(void* self, const kc_layer_view& layer, int64_t n_queries,
                                            int64_t token_stride);
};

}  // namespace kc
