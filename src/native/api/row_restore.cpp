#include "api/check.h"
#include "api/guard.h"
#include "api/view_check.h"

using namespace kc;

namespace {

void check_move(const kc_spill* spill, uint64_t offset_bytes, const void* data, uint64_t n_bytes) {
    check_pointer(spill, "spill");
    if (n_bytes > 0) check_pointer(data, "data");
    if (offset_bytes > spill->reserved_bytes || n_bytes > spill->reserved_bytes - offset_bytes) {
        fail(KC_ERR_ARGUMENT,
             "offset_bytes %llu and n_bytes %llu reach behind the file, which has %llu bytes: reserve it first",
             static_cast<unsigned long long>(offset_bytes), static_cast<unsigned long long>(n_bytes),
             static_cast<unsigned long long>(spill->reserved_bytes));
    }
}

void check_restore(kc_context* context, const kc_row_restore_params* params) {
    check_pointer(context, "context");
    check_struct(params, "params");
    check_wave(context->backend, params->wave);
    check_pointer(params->wave->layer->exact.base, "params->wave->layer->exact.base");
    if (params->hot) check_hot(*params->wave->layer, *params->hot);
    check_pointer(params->kept, "params->kept");
    check_pointer(params->n_kept, "params->n_kept");
    check_at_least(params->kept_stride, 1, "params->kept_stride");
    check_pointer(params->scratch, "params->scratch");
    check_pointer(params->rows, "params->rows");
    check_pointer(params->n_restored, "params->n_restored");
    check_pointer(params->n_hot, "params->n_hot");
}

}  // namespace

kc_status kc_spill_create(kc_context* context, const char* dir, kc_spill** out) {
    return guard([&] {
        check_pointer(context, "context");
        check_pointer(out, "out");
        *out = context->create_spill(dir);
    });
}

kc_status kc_spill_reserve(kc_spill* spill, uint64_t n_bytes) {
    return guard([&] {
        check_pointer(spill, "spill");
        spill->context->reserve(spill, n_bytes);
    });
}

kc_status kc_spill_write(kc_spill* spill, uint64_t offset_bytes, const void* data, uint64_t n_bytes) {
    return guard([&] {
        check_move(spill, offset_bytes, data, n_bytes);
        if (n_bytes == 0) return;
        // A write reads its memory only.
        const Backend::Move move = {const_cast<void*>(data), offset_bytes, n_bytes};
        spill->context->backend.spill_write(spill, &move, 1);
        spill->context->backend.sync(spill->context->backend.self);  // the caller may go on with its memory
    });
}

kc_status kc_spill_read(kc_spill* spill, uint64_t offset_bytes, void* data, uint64_t n_bytes) {
    return guard([&] {
        check_move(spill, offset_bytes, data, n_bytes);
        if (n_bytes == 0) return;
        const Backend::Move move = {data, offset_bytes, n_bytes};
        spill->context->backend.spill_read(spill, &move, 1);
        spill->context->backend.spill_read_end(spill);
    });
}

void kc_spill_destroy(kc_spill* spill) {
    if (spill) spill->context->destroy(spill);
}

kc_status kc_hot_drop(kc_context* context, const kc_hot_store* hot, int32_t n_kv_heads, int32_t slot,
                      int32_t first_token) {
    return guard([&] {
        check_pointer(context, "context");
        check_pointer(hot, "hot");
        check_at_least(hot->n_slots, 1, "hot->n_slots");
        check_pointer(hot->state, "hot->state");
        check_at_least(n_kv_heads, 1, "n_kv_heads");
        check_at_least(slot, 0, "slot");
        check_at_least(first_token, 0, "first_token");
        context->backend.hot_drop(context->backend.self, *hot, n_kv_heads, slot, first_token);
    });
}

kc_status kc_row_restore_begin(kc_context* context, const kc_row_restore_params* params) {
    return guard([&] {
        check_restore(context, params);
        context->backend.row_restore_begin(context->backend.self, *params);
    });
}

kc_status kc_row_restore_end(kc_context* context, const kc_row_restore_params* params) {
    return guard([&] {
        check_restore(context, params);
        context->backend.row_restore_end(context->backend.self, *params);
    });
}

kc_status kc_row_restore(kc_context* context, const kc_row_restore_params* params) {
    return guard([&] {
        check_restore(context, params);
        context->backend.row_restore_begin(context->backend.self, *params);
        context->backend.row_restore_end(context->backend.self, *params);
    });
}

uint64_t kc_row_restore_scratch_bytes(kc_context* context, const kc_layer_view* layer, int64_t n_queries,
                                      int64_t kept_stride) {
    return guard_size([&] {
        check_pointer(context, "context");
        check_layer(context->backend, layer, "layer");
        check_range(n_queries, 1, INT32_MAX, "n_queries");
        check_range(kept_stride, 1, INT32_MAX, "kept_stride");
        return context->backend.row_restore_scratch_bytes(context->backend.self, *layer, n_queries, kept_stride);
    });
}
