/* Prints the size and the offsets of every struct of the public headers as JSON: another language's mirror of them is
 * compared with this. */
#include <stddef.h>
#include <stdio.h>

#include "kcache_ops.h"

static const char* separator = "";

static void begin(const char* name, size_t size) {
    printf("%s\n  \"%s\": { \"size\": %zu, \"fields\": [", separator, name, size);
    separator = "";
}
static void field(const char* name, size_t offset) {
    printf("%s [\"%s\", %zu]", separator, name, offset);
    separator = ",";
}
static void end(void) {
    printf(" ] }");
    separator = ",";
}

#define BEGIN(type) begin(#type, sizeof(type))
#define FIELD(type, name) field(#name, offsetof(type, name))

int main(void) {
    printf("{");
    BEGIN(kc_device_info);
    FIELD(kc_device_info, size);
    FIELD(kc_device_info, backend);
    FIELD(kc_device_info, device);
    FIELD(kc_device_info, isa);
    FIELD(kc_device_info, name);
    FIELD(kc_device_info, reserved);
    FIELD(kc_device_info, total_bytes);
    FIELD(kc_device_info, free_bytes);
    end();

    BEGIN(kc_context_desc);
    FIELD(kc_context_desc, size);
    FIELD(kc_context_desc, backend);
    FIELD(kc_context_desc, device);
    FIELD(kc_context_desc, n_threads);
    FIELD(kc_context_desc, activations);
    end();

    BEGIN(kc_context_info);
    FIELD(kc_context_info, size);
    FIELD(kc_context_info, backend);
    FIELD(kc_context_info, n_threads);
    FIELD(kc_context_info, activations);
    FIELD(kc_context_info, isa);
    FIELD(kc_context_info, device);
    FIELD(kc_context_info, live_bytes);
    FIELD(kc_context_info, n_live_objects);
    FIELD(kc_context_info, n_allocations);
    end();

    BEGIN(kc_cache_desc);
    FIELD(kc_cache_desc, size);
    FIELD(kc_cache_desc, n_layers);
    FIELD(kc_cache_desc, n_q_heads);
    FIELD(kc_cache_desc, n_kv_heads);
    FIELD(kc_cache_desc, head_dim);
    FIELD(kc_cache_desc, n_context);
    FIELD(kc_cache_desc, n_sequences);
    FIELD(kc_cache_desc, n_batch_tokens);
    FIELD(kc_cache_desc, n_pool_tokens);
    FIELD(kc_cache_desc, scale);
    FIELD(kc_cache_desc, policy);
    FIELD(kc_cache_desc, mode);
    FIELD(kc_cache_desc, select);
    FIELD(kc_cache_desc, k_codec);
    FIELD(kc_cache_desc, v_codec);
    FIELD(kc_cache_desc, v_sketch);
    FIELD(kc_cache_desc, n_keep);
    FIELD(kc_cache_desc, n_keep_max);
    FIELD(kc_cache_desc, n_sink);
    FIELD(kc_cache_desc, n_recent);
    FIELD(kc_cache_desc, n_dense_layers);
    FIELD(kc_cache_desc, max_tail);
    FIELD(kc_cache_desc, max_error);
    FIELD(kc_cache_desc, fast_budget_bytes);
    FIELD(kc_cache_desc, spill_dir);
    end();

    BEGIN(kc_memory);
    FIELD(kc_memory, size);
    FIELD(kc_memory, n_fast_exact_pages);
    FIELD(kc_memory, fast_bytes);
    FIELD(kc_memory, slow_bytes);
    FIELD(kc_memory, fast_minimum_bytes);
    FIELD(kc_memory, keys_bytes);
    FIELD(kc_memory, values_bytes);
    FIELD(kc_memory, exact_bytes);
    FIELD(kc_memory, hot_bytes);
    FIELD(kc_memory, scratch_bytes);
    end();

    BEGIN(kc_batch_entry);
    FIELD(kc_batch_entry, sequence);
    FIELD(kc_batch_entry, n_tokens);
    FIELD(kc_batch_entry, kind);
    end();

    BEGIN(kc_statistics);
    FIELD(kc_statistics, size);
    FIELD(kc_statistics, reserved);
    FIELD(kc_statistics, n_steps);
    FIELD(kc_statistics, n_head_steps);
    FIELD(kc_statistics, tail_sum);
    FIELD(kc_statistics, tail_max);
    FIELD(kc_statistics, error_max);
    FIELD(kc_statistics, n_selections);
    FIELD(kc_statistics, rows_selected);
    FIELD(kc_statistics, rows_restored);
    FIELD(kc_statistics, rows_hot);
    FIELD(kc_statistics, restored_bytes);
    FIELD(kc_statistics, read_bytes);
    FIELD(kc_statistics, bound_missed);
    FIELD(kc_statistics, n_nonfinite);
    end();

    BEGIN(kc_matrix);
    FIELD(kc_matrix, data);
    FIELD(kc_matrix, n_rows);
    FIELD(kc_matrix, n_cols);
    FIELD(kc_matrix, type);
    FIELD(kc_matrix, reserved);
    end();

    BEGIN(kc_matmul_output);
    FIELD(kc_matmul_output, weight);
    FIELD(kc_matmul_output, bias);
    FIELD(kc_matmul_output, out);
    FIELD(kc_matmul_output, out_stride);
    FIELD(kc_matmul_output, accumulate);
    FIELD(kc_matmul_output, reserved);
    end();

    BEGIN(kc_matmul_params);
    FIELD(kc_matmul_params, size);
    FIELD(kc_matmul_params, n_outputs);
    FIELD(kc_matmul_params, x);
    FIELD(kc_matmul_params, n_tokens);
    FIELD(kc_matmul_params, n_cols);
    FIELD(kc_matmul_params, x_stride);
    FIELD(kc_matmul_params, outputs);
    end();

    BEGIN(kc_page_view);
    FIELD(kc_page_view, position);
    FIELD(kc_page_view, page);
    FIELD(kc_page_view, exact);
    end();

    BEGIN(kc_sequence_view);
    FIELD(kc_sequence_view, first_row);
    FIELD(kc_sequence_view, n_rows);
    FIELD(kc_sequence_view, n_past);
    FIELD(kc_sequence_view, n_pages);
    FIELD(kc_sequence_view, pages);
    FIELD(kc_sequence_view, first_page);
    FIELD(kc_sequence_view, set_centre);
    FIELD(kc_sequence_view, hot);
    FIELD(kc_sequence_view, reserved);
    end();

    BEGIN(kc_store);
    FIELD(kc_store, codec);
    FIELD(kc_store, reserved);
    FIELD(kc_store, base);
    FIELD(kc_store, page_stride_bytes);
    FIELD(kc_store, first);
    FIELD(kc_store, first_stride_bytes);
    FIELD(kc_store, centre);
    FIELD(kc_store, centre_stride);
    end();

    BEGIN(kc_exact_store);
    FIELD(kc_exact_store, has_k);
    FIELD(kc_exact_store, v_codec);
    FIELD(kc_exact_store, row_bytes);
    FIELD(kc_exact_store, base);
    FIELD(kc_exact_store, slot_stride_bytes);
    FIELD(kc_exact_store, scales);
    FIELD(kc_exact_store, scale_stride);
    FIELD(kc_exact_store, spill);
    FIELD(kc_exact_store, spill_offset_bytes);
    FIELD(kc_exact_store, spill_stride_bytes);
    end();

    BEGIN(kc_layer_view);
    FIELD(kc_layer_view, n_q_heads);
    FIELD(kc_layer_view, n_kv_heads);
    FIELD(kc_layer_view, head_dim);
    FIELD(kc_layer_view, scale);
    FIELD(kc_layer_view, k);
    FIELD(kc_layer_view, v);
    FIELD(kc_layer_view, exact);
    end();

    BEGIN(kc_kv_append_params);
    FIELD(kc_kv_append_params, size);
    FIELD(kc_kv_append_params, n_sequences);
    FIELD(kc_kv_append_params, layer);
    FIELD(kc_kv_append_params, sequences);
    FIELD(kc_kv_append_params, k);
    FIELD(kc_kv_append_params, v);
    FIELD(kc_kv_append_params, n_nonfinite);
    end();

    BEGIN(kc_attention_full_params);
    FIELD(kc_attention_full_params, size);
    FIELD(kc_attention_full_params, n_sequences);
    FIELD(kc_attention_full_params, layer);
    FIELD(kc_attention_full_params, sequences);
    FIELD(kc_attention_full_params, staged);
    FIELD(kc_attention_full_params, n_sink);
    FIELD(kc_attention_full_params, n_recent);
    FIELD(kc_attention_full_params, kv_head_begin);
    FIELD(kc_attention_full_params, kv_head_end);
    FIELD(kc_attention_full_params, q);
    FIELD(kc_attention_full_params, scratch);
    FIELD(kc_attention_full_params, out);
    end();

    BEGIN(kc_query_view);
    FIELD(kc_query_view, row);
    FIELD(kc_query_view, sequence);
    FIELD(kc_query_view, n_visible);
    FIELD(kc_query_view, visible_from);
    end();

    BEGIN(kc_wave);
    FIELD(kc_wave, layer);
    FIELD(kc_wave, sequences);
    FIELD(kc_wave, queries);
    FIELD(kc_wave, n_queries);
    FIELD(kc_wave, n_sink);
    FIELD(kc_wave, n_recent);
    FIELD(kc_wave, kv_head_begin);
    FIELD(kc_wave, kv_head_end);
    FIELD(kc_wave, reserved);
    FIELD(kc_wave, q);
    FIELD(kc_wave, token_stride);
    end();

    BEGIN(kc_attention_score_params);
    FIELD(kc_attention_score_params, size);
    FIELD(kc_attention_score_params, reserved);
    FIELD(kc_attention_score_params, wave);
    FIELD(kc_attention_score_params, scratch);
    FIELD(kc_attention_score_params, weights);
    FIELD(kc_attention_score_params, reference);
    FIELD(kc_attention_score_params, mass);
    FIELD(kc_attention_score_params, n_nonfinite);
    end();

    BEGIN(kc_select_topn_params);
    FIELD(kc_select_topn_params, size);
    FIELD(kc_select_topn_params, select);
    FIELD(kc_select_topn_params, wave);
    FIELD(kc_select_topn_params, weights);
    FIELD(kc_select_topn_params, mass);
    FIELD(kc_select_topn_params, n_keep);
    FIELD(kc_select_topn_params, n_keep_max);
    FIELD(kc_select_topn_params, max_tail);
    FIELD(kc_select_topn_params, max_error);
    FIELD(kc_select_topn_params, kept_stride);
    FIELD(kc_select_topn_params, scratch);
    FIELD(kc_select_topn_params, kept);
    FIELD(kc_select_topn_params, n_kept);
    FIELD(kc_select_topn_params, n_selected);
    FIELD(kc_select_topn_params, tail);
    FIELD(kc_select_topn_params, error);
    FIELD(kc_select_topn_params, missed);
    end();

    BEGIN(kc_hot_store);
    FIELD(kc_hot_store, n_slots);
    FIELD(kc_hot_store, reserved);
    FIELD(kc_hot_store, rows);
    FIELD(kc_hot_store, hot_stride_bytes);
    FIELD(kc_hot_store, state);
    FIELD(kc_hot_store, state_stride_bytes);
    end();

    BEGIN(kc_row_restore_params);
    FIELD(kc_row_restore_params, size);
    FIELD(kc_row_restore_params, reserved);
    FIELD(kc_row_restore_params, wave);
    FIELD(kc_row_restore_params, hot);
    FIELD(kc_row_restore_params, kept);
    FIELD(kc_row_restore_params, n_kept);
    FIELD(kc_row_restore_params, kept_stride);
    FIELD(kc_row_restore_params, staging);
    FIELD(kc_row_restore_params, scratch);
    FIELD(kc_row_restore_params, rows);
    FIELD(kc_row_restore_params, n_restored);
    FIELD(kc_row_restore_params, n_hot);
    end();

    BEGIN(kc_attention_mix_params);
    FIELD(kc_attention_mix_params, size);
    FIELD(kc_attention_mix_params, mode);
    FIELD(kc_attention_mix_params, wave);
    FIELD(kc_attention_mix_params, weights);
    FIELD(kc_attention_mix_params, reference);
    FIELD(kc_attention_mix_params, mass);
    FIELD(kc_attention_mix_params, kept);
    FIELD(kc_attention_mix_params, n_kept);
    FIELD(kc_attention_mix_params, rows);
    FIELD(kc_attention_mix_params, kept_stride);
    FIELD(kc_attention_mix_params, scratch);
    FIELD(kc_attention_mix_params, out);
    FIELD(kc_attention_mix_params, tail);
    FIELD(kc_attention_mix_params, error);
    end();

    printf("\n}\n");
    return 0;
}
