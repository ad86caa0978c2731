// The stems of the cache as the CPU backend offers them; include/kcache_ops.h says what each one does. Arguments have
// been checked. Failures are thrown as kc::Error. None of them allocates.
#pragma once

#include <cstdint>

#include "kcache_ops.h"

namespace kc {

struct CpuContext;

void kv_append(CpuContext& context, const kc_kv_append_params& params);
void kv_decode(CpuContext& context, const kc_layer_view& layer, const kc_sequence_view& sequence, bool is_v,
               int32_t kv_head, int32_t first_token, int32_t n_tokens, float* out);

void attention_full(CpuContext& context, const kc_attention_full_params& params);
uint64_t attention_full_scratch_bytes(CpuContext& context, const kc_layer_view& layer, int64_t n_context);

void attention_score(CpuContext& context, const kc_attention_score_params& params);
uint64_t attention_score_scratch_bytes(CpuContext& context, const kc_layer_view& layer, int64_t n_queries,
                                       int64_t token_stride);

void select_topn(CpuContext& context, const kc_select_topn_params& params);
uint64_t select_topn_scratch_bytes(CpuContext& context, const kc_layer_view& layer, int64_t n_queries,
                                   int64_t token_stride);

void row_restore_begin(CpuContext& context, const kc_row_restore_params& params);
void row_restore_end(CpuContext& context, const kc_row_restore_params& params);
uint64_t row_restore_scratch_bytes(CpuContext& context, const kc_layer_view& layer, int64_t n_queries,
                                   int64_t kept_stride);
void hot_drop(CpuContext& context, const kc_hot_store& hot, int32_t n_kv_heads, int32_t slot, int32_t first_token);
uint64_t hot_state_bytes(int32_t n_slots);

void attention_mix(CpuContext& context, const kc_attention_mix_params& params);
uint64_t attention_mix_scratch_bytes(CpuContext& context, const kc_layer_view& layer, int64_t n_queries,
                                     int64_t token_stride);

// Bytes of one block; 0 where the codec or the head size is not offered.
uint64_t block_bytes(int32_t codec, int32_t head_dim);

}  // namespace kc
