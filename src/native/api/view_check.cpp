#include "api/view_check.h"

#include "api/check.h"

namespace kc {
namespace {

void check_store(const Backend& backend, const kc_layer_view& layer, const kc_store& store, const char* name) {
    char text[64];
    const auto part = [&](const char* field) {
        std::snprintf(text, sizeof text, "layer->%s.%s", name, field);
        return static_cast<const char*>(text);
    };
    const int64_t f16_bytes =
        layer.n_kv_heads * static_cast<int64_t>(backend.block_bytes(KC_CODEC_F16, layer.head_dim));
    if (store.first) check_at_least(store.first_stride_bytes, f16_bytes, part("first_stride_bytes"));
    if (!store.base) return;
    check_range(store.codec, KC_CODEC_F16, KC_CODEC_Q2, part("codec"));
    const auto block_bytes = static_cast<int64_t>(backend.block_bytes(store.codec, layer.head_dim));
    if (block_bytes == 0) {
        fail(KC_ERR_UNSUPPORTED, "layer->%s.codec %d is not offered for head_dim %d", name, store.codec,
             layer.head_dim);
    }
    check_at_least(store.page_stride_bytes, layer.n_kv_heads * block_bytes, part("page_stride_bytes"));
    if (store.codec == KC_CODEC_F16) return;
    check_pointer(store.first, part("first"));
    check_pointer(store.centre, part("centre"));
    check_at_least(store.centre_stride, static_cast<int64_t>(layer.n_kv_heads) * layer.head_dim, part("centre_stride"));
}

void check_exact(const kc_layer_view& layer) {
    const kc_exact_store& exact = layer.exact;
    if (!exact.base) return;
    check_range(exact.has_k, 0, 1, "layer->exact.has_k");
    check_range(exact.v_codec, KC_CODEC_F16, KC_CODEC_Q8, "layer->exact.v_codec");
    const int64_t row_bytes =
        int64_t(layer.head_dim) * ((exact.has_k ? 2 : 0) + (exact.v_codec == KC_CODEC_F16 ? 2 : 1));
    check_range(exact.row_bytes, row_bytes, row_bytes, "layer->exact.row_bytes");
    check_at_least(exact.slot_stride_bytes, layer.n_kv_heads * kPageTokens * row_bytes,
                   "layer->exact.slot_stride_bytes");
    if (exact.v_codec == KC_CODEC_Q8) {
        check_pointer(exact.scales, "layer->exact.scales");
        check_at_least(exact.scale_stride, int64_t(layer.n_kv_heads) * kPageTokens, "layer->exact.scale_stride");
        check_pointer(layer.v.first, "layer->v.first");
        check_pointer(layer.v.centre, "layer->v.centre");
    }
    if (!exact.spill) return;
    check_at_least(exact.spill_offset_bytes, 0, "layer->exact.spill_offset_bytes");
    check_at_least(exact.spill_stride_bytes, layer.n_kv_heads * kPageTokens * row_bytes,
                   "layer->exact.spill_stride_bytes");
}

bool uses_first_pages(const kc_layer_view& layer) { return layer.k.first || layer.v.first; }

void check_pages(const kc_layer_view& layer, const kc_sequence_view& sequence, int64_t index) {
    char text[64];
    const auto part = [&](const char* field) {
        std::snprintf(text, sizeof text, "sequences[%lld].%s", static_cast<long long>(index), field);
        return static_cast<const char*>(text);
    };
    check_at_least(sequence.first_row, 0, part("first_row"));
    check_at_least(sequence.n_rows, 0, part("n_rows"));
    check_at_least(sequence.n_past, 0, part("n_past"));
    check_at_least(sequence.n_pages, 1, part("n_pages"));
    check_pointer(sequence.pages, part("pages"));
    check_range(sequence.set_centre, 0, 1, part("set_centre"));
    if (uses_first_pages(layer) && sequence.pages[0].position == 0)
        check_at_least(sequence.first_page, 0, part("first_page"));
    int64_t before = -1;
    for (int32_t p = 0; p < sequence.n_pages; ++p) {
        const kc_page_view& page = sequence.pages[p];
        if (page.position < 0 || page.position % kPageTokens != 0 || page.position <= before) {
            fail(KC_ERR_ARGUMENT,
                 "%s[%d].position is %d, but positions ascend (the one before: %lld) in multiples of %d", part("pages"),
                 p, page.position, static_cast<long long>(before), kPageTokens);
        }
        before = page.position;
        if (page.page < 0)
            fail(KC_ERR_ARGUMENT, "%s[%d].page is %d, but must be at least 0", part("pages"), p, page.page);
    }
    const int64_t end = int64_t(sequence.n_past) + sequence.n_rows;
    if (end > before + kPageTokens) {
        fail(KC_ERR_ARGUMENT, "%s end at position %lld, but n_past + n_rows is %lld", part("pages"),
             static_cast<long long>(before + kPageTokens), static_cast<long long>(end));
    }
    if (!layer.exact.base) return;
    for (int32_t p = 0; p < sequence.n_pages; ++p) {
        const kc_page_view& page = sequence.pages[p];
        if (page.exact >= 0) continue;
        if (page.position == 0 && layer.v.first) continue;
        if (!layer.exact.spill) {
            fail(KC_ERR_ARGUMENT, "%s[%d].exact is %d, a page of the spill file, but layer->exact.spill is NULL",
                 part("pages"), p, page.exact);
        }
        if (sequence.n_rows > 0 && page.position + kPageTokens > sequence.n_past) {
            fail(KC_ERR_ARGUMENT, "%s[%d].exact is %d, but pages of new rows must have a fast slot, at least 0",
                 part("pages"), p, page.exact);
        }
    }
}

}  // namespace

void check_layer(const Backend& backend, const kc_layer_view* layer, const char* name) {
    check_pointer(layer, name);
    check_range(layer->n_kv_heads, 1, 65536, "layer->n_kv_heads");
    check_range(layer->n_q_heads, 1, 65536, "layer->n_q_heads");
    if (layer->n_q_heads % layer->n_kv_heads != 0) {
        fail(KC_ERR_ARGUMENT, "layer->n_q_heads is %d, but must be a multiple of n_kv_heads, which is %d",
             layer->n_q_heads, layer->n_kv_heads);
    }
    check_range(layer->head_dim, 16, 256, "layer->head_dim");
    if (layer->head_dim % 16 != 0)
        fail(KC_ERR_ARGUMENT, "layer->head_dim is %d, but must be a multiple of 16", layer->head_dim);
    check_finite(layer->scale, "layer->scale");
    check_pointer(layer->k.base, "layer->k.base");
    check_store(backend, *layer, layer->k, "k");
    check_store(backend, *layer, layer->v, "v");
    check_exact(*layer);
    if (!layer->v.base && !layer->exact.base) {
        fail(KC_ERR_ARGUMENT, "layer->v.base and layer->exact.base are both NULL: the layer has no values");
    }
}

void check_sequences(const kc_layer_view& layer, const kc_sequence_view* sequences, int64_t n_sequences) {
    check_at_least(n_sequences, 1, "n_sequences");
    check_pointer(sequences, "sequences");
    for (int64_t i = 0; i < n_sequences; ++i) check_pages(layer, sequences[i], i);
}

void check_wave(const Backend& backend, const kc_wave* wave) {
    check_pointer(wave, "params->wave");
    check_layer(backend, wave->layer, "wave->layer");
    check_pointer(wave->sequences, "wave->sequences");
    check_pointer(wave->queries, "wave->queries");
    check_pointer(wave->q, "wave->q");
    check_at_least(wave->n_queries, 1, "wave->n_queries");
    check_at_least(wave->n_sink, 0, "wave->n_sink");
    check_at_least(wave->n_recent, 0, "wave->n_recent");
    check_range(wave->kv_head_begin, 0, wave->layer->n_kv_heads, "wave->kv_head_begin");
    check_range(wave->kv_head_end, wave->kv_head_begin, wave->layer->n_kv_heads, "wave->kv_head_end");
    if (wave->token_stride < kPageTokens || wave->token_stride % kPageTokens != 0) {
        fail(KC_ERR_ARGUMENT, "wave->token_stride is %lld, but must be a positive multiple of %d",
             static_cast<long long>(wave->token_stride), kPageTokens);
    }
    for (int32_t i = 0; i < wave->n_queries; ++i) {
        const kc_query_view& query = wave->queries[i];
        check_at_least(query.sequence, 0, "wave->queries[].sequence");
        check_at_least(query.row, 0, "wave->queries[].row");
        const kc_sequence_view& sequence = wave->sequences[query.sequence];
        check_pages(*wave->layer, sequence, query.sequence);
        const int64_t n_tokens = int64_t(sequence.n_pages) * kPageTokens;
        if (n_tokens > wave->token_stride) {
            fail(KC_ERR_ARGUMENT, "wave->token_stride is %lld, but sequence %d has pages for %lld tokens",
                 static_cast<long long>(wave->token_stride), query.sequence, static_cast<long long>(n_tokens));
        }
        check_range(query.n_visible, 1, sequence.pages[sequence.n_pages - 1].position + int64_t(kPageTokens),
                    "wave->queries[].n_visible");
        check_at_least(query.visible_from, 0, "wave->queries[].visible_from");
    }
}

void check_hot(const kc_layer_view& layer, const kc_hot_store& hot) {
    check_at_least(hot.n_slots, 1, "hot->n_slots");
    check_pointer(hot.rows, "hot->rows");
    check_pointer(hot.state, "hot->state");
    check_at_least(hot.hot_stride_bytes, layer.n_kv_heads * hot.n_slots * layer.exact.row_bytes,
                   "hot->hot_stride_bytes");
    check_at_least(hot.state_stride_bytes, 1, "hot->state_stride_bytes");
}

}  // namespace kc
