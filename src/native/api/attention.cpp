#include "api/check.h"
#include "api/guard.h"
#include "api/view_check.h"

using namespace kc;

kc_status kc_kv_append(kc_context* context, const kc_kv_append_params* params) {
    return guard([&] {
        check_pointer(context, "context");
        check_struct(params, "params");
        check_layer(context->backend, params->layer, "params->layer");
        check_sequences(*params->layer, params->sequences, params->n_sequences);
        check_pointer(params->k, "params->k");
        check_pointer(params->v, "params->v");
        check_pointer(params->n_nonfinite, "params->n_nonfinite");
        context->backend.kv_append(context->backend.self, *params);
    });
}

kc_status kc_kv_decode(kc_context* context, const kc_layer_view* layer, const kc_sequence_view* sequence, int32_t is_v,
                       int32_t kv_head, int32_t first_token, int32_t n_tokens, float* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_layer(context->backend, layer, "layer");
        check_sequences(*layer, sequence, 1);
        check_range(is_v, 0, 1, "is_v");
        check_range(kv_head, 0, layer->n_kv_heads - 1, "kv_head");
        const int64_t n_view = int64_t(sequence->n_pages) * kPageTokens;
        check_range(first_token, 0, n_view, "first_token");
        check_range(n_tokens, 0, n_view - first_token, "n_tokens");
        if (n_tokens == 0) return;
        check_pointer(out, "out");
        context->backend.kv_decode(context->backend.self, *layer, *sequence, is_v != 0, kv_head, first_token, n_tokens,
                                   out);
    });
}

kc_status kc_attention_full(kc_context* context, const kc_attention_full_params* params) {
    return guard([&] {
        check_pointer(context, "context");
        check_struct(params, "params");
        check_layer(context->backend, params->layer, "params->layer");
        check_sequences(*params->layer, params->sequences, params->n_sequences);
        check_at_least(params->n_sink, 0, "params->n_sink");
        check_at_least(params->n_recent, -1, "params->n_recent");
        check_range(params->kv_head_begin, 0, params->layer->n_kv_heads - 1, "params->kv_head_begin");
        if (params->kv_head_end != 0 || params->kv_head_begin != 0) {
            check_range(params->kv_head_end, params->kv_head_begin + 1, params->layer->n_kv_heads,
                        "params->kv_head_end");
        }
        check_pointer(params->q, "params->q");
        check_pointer(params->scratch, "params->scratch");
        check_pointer(params->out, "params->out");
        context->backend.attention_full(context->backend.self, *params);
    });
}

uint64_t kc_attention_full_scratch_bytes(kc_context* context, const kc_layer_view* layer, int64_t n_context) {
    return guard_size([&] {
        check_pointer(context, "context");
        check_layer(context->backend, layer, "layer");
        check_range(n_context, 1, INT32_MAX, "n_context");
        return context->backend.attention_full_scratch_bytes(context->backend.self, *layer, n_context);
    });
}

kc_status kc_attention_score(kc_context* context, const kc_attention_score_params* params) {
    return guard([&] {
        check_pointer(context, "context");
        check_struct(params, "params");
        check_wave(context->backend, params->wave);
        check_pointer(params->scratch, "params->scratch");
        check_pointer(params->weights, "params->weights");
        check_pointer(params->reference, "params->reference");
        check_pointer(params->mass, "params->mass");
        check_pointer(params->n_nonfinite, "params->n_nonfinite");
        context->backend.attention_score(context->backend.self, *params);
    });
}

uint64_t kc_attention_score_scratch_bytes(kc_context* context, const kc_layer_view* layer, int64_t n_queries,
                                          int64_t token_stride) {
    return guard_size([&] {
        check_pointer(context, "context");
        check_layer(context->backend, layer, "layer");
        check_range(n_queries, 1, INT32_MAX, "n_queries");
        check_range(token_stride, 1, INT32_MAX, "token_stride");
        return context->backend.attention_score_scratch_bytes(context->backend.self, *layer, n_queries, token_stride);
    });
}

kc_status kc_select_topn(kc_context* context, const kc_select_topn_params* params) {
    return guard([&] {
        check_pointer(context, "context");
        check_struct(params, "params");
        check_wave(context->backend, params->wave);
        check_range(params->select, KC_SELECT_GROUP, KC_SELECT_UNION, "params->select");
        check_at_least(params->n_keep, 0, "params->n_keep");
        check_at_least(params->n_keep_max, params->n_keep, "params->n_keep_max");
        check_finite(params->max_tail, "params->max_tail");
        check_finite(params->max_error, "params->max_error");
        check_at_least(params->kept_stride, 1, "params->kept_stride");
        check_pointer(params->weights, "params->weights");
        check_pointer(params->mass, "params->mass");
        check_pointer(params->scratch, "params->scratch");
        check_pointer(params->kept, "params->kept");
        check_pointer(params->n_kept, "params->n_kept");
        check_pointer(params->n_selected, "params->n_selected");
        const bool bounded = params->max_tail > 0.f || params->max_error > 0.f;
        if (bounded || params->error != nullptr) check_pointer(params->tail, "params->tail");
        if (bounded || params->tail != nullptr) check_pointer(params->error, "params->error");
        check_pointer(params->missed, "params->missed");
        context->backend.select_topn(context->backend.self, *params);
    });
}

uint64_t kc_select_topn_scratch_bytes(kc_context* context, const kc_layer_view* layer, int64_t n_queries,
                                      int64_t token_stride) {
    return guard_size([&] {
        check_pointer(context, "context");
        check_layer(context->backend, layer, "layer");
        check_range(n_queries, 1, INT32_MAX, "n_queries");
        check_range(token_stride, 1, INT32_MAX, "token_stride");
        return context->backend.select_topn_scratch_bytes(context->backend.self, *layer, n_queries, token_stride);
    });
}

kc_status kc_attention_mix(kc_context* context, const kc_attention_mix_params* params) {
    return guard([&] {
        check_pointer(context, "context");
        check_struct(params, "params");
        check_range(params->mode, KC_MIX_RENORMALIZED, KC_MIX_SKETCHED, "params->mode");
        check_wave(context->backend, params->wave);
        check_pointer(params->weights, "params->weights");
        check_pointer(params->reference, "params->reference");
        check_pointer(params->mass, "params->mass");
        if (params->kept) {
            check_pointer(params->n_kept, "params->n_kept");
            check_pointer(params->rows, "params->rows");
            check_at_least(params->kept_stride, 1, "params->kept_stride");
        } else {
            check_pointer(params->wave->layer->v.base, "params->wave->layer->v.base (params->kept is NULL)");
        }
        if (params->mode == KC_MIX_SKETCHED) check_pointer(params->wave->layer->v.base, "params->wave->layer->v.base");
        check_pointer(params->scratch, "params->scratch");
        check_pointer(params->out, "params->out");
        context->backend.attention_mix(context->backend.self, *params);
    });
}

uint64_t kc_attention_mix_scratch_bytes(kc_context* context, const kc_layer_view* layer, int64_t n_queries,
                                        int64_t token_stride) {
    return guard_size([&] {
        check_pointer(context, "context");
        check_layer(context->backend, layer, "layer");
        check_range(n_queries, 1, INT32_MAX, "n_queries");
        check_range(token_stride, 1, INT32_MAX, "token_stride");
        return context->backend.attention_mix_scratch_bytes(context->backend.self, *layer, n_queries, token_stride);
    });
}
