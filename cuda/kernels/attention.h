// The stems of the cache on CUDA; arguments as in kcache_ops.h. Layers, sequences, queries and waves are host memory
// and travel by value or in a frame; every other pointer is device memory.
#pragma once

#include "context.h"

namespace kc::cuda {

void kv_append(Context& context, const kc_kv_append_params& params);
void kv_decode(Context& context, const kc_layer_view& layer, const kc_sequence_view& sequence, bool is_v,
               int32_t kv_head, int32_t first_token, int32_t n_tokens, float* out);

void attention_full(Context& context, const kc_attention_full_params& params);
uint64_t attention_full_scratch_bytes(Context& context, const kc_layer_view& layer, int64_t n_context);

void attention_score(Context& context, const kc_attention_score_params& params);
uint64_t attention_score_scratch_bytes(Context& context, const kc_layer_view& layer, int64_t n_queries,
                                       int64_t token_stride);

void select_topn(Context& context, const kc_select_topn_params& params);
uint64_t select_topn_scratch_bytes(Context& context, const kc_layer_view& layer, int64_t n_queries,
                                   int64_t token_stride);

uint64_t hot_state_bytes(int32_t n_slots);
void hot_drop(Context& context, const kc_hot_store& hot, int32_t n_kv_heads, int32_t slot, int32_t first_token);
void row_restore_begin(Context& context, const kc_row_restore_params& params);
void row_restore_end(Context& context, const kc_row_restore_params& params);
uint64_t row_restore_scratch_bytes(Context& context, const kc_layer_view& layer, int64_t n_queries,
                                   int64_t kept_stride);

void attention_mix(Context& context, const kc_attention_mix_params& params);
uint64_t attention_mix_scratch_bytes(Context& context, const kc_layer_view& layer, int64_t n_queries,
                                     int64_t token_stride);

}  // namespace kc::cuda
