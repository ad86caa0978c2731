#include "core/context.h"

#include "api/check.h"
#include "api/guard.h"
#include "core/backends.h"
#include "core/error.h"

using namespace kc;

namespace {

bool cuda_works() {
    try {
        return count_cuda_devices() > 0;
    } catch (const Error& error) {
        if (error.status() == KC_ERR_UNSUPPORTED) return false;
        throw;
    }
}

}  // namespace

kc_status kc_context_create(const kc_context_desc* desc, kc_context** out) {
    return guard([&] {
        check_struct(desc, "desc");
        check_pointer(out, "out");
        check_range(desc->backend, KC_BACKEND_AUTO, KC_BACKEND_CUDA, "desc->backend");
        check_at_least(desc->device, 0, "desc->device");
        check_range(desc->n_threads, 0, 1024, "desc->n_threads");
        check_range(desc->activations, KC_ACTIVATIONS_Q8, KC_ACTIVATIONS_F32, "desc->activations");
        const bool cuda = desc->backend == KC_BACKEND_CUDA || (desc->backend == KC_BACKEND_AUTO && cuda_works());
        const Backend backend = cuda ? make_cuda_backend(*desc) : make_cpu_backend(*desc);
        try {
            *out = new kc_context(backend);
        } catch (...) {
            backend.destroy(backend.self);
            throw;
        }
    });
}

kc_status kc_context_destroy(kc_context* context) {
    return guard([&] {
        if (!context) return;
        if (context->n_live_objects > 0) {
            fail(KC_ERR_STATE,
                 "%llu buffers, caches or spill files of this context still live, but there must be none: destroy them "
                 "first",
                 static_cast<unsigned long long>(context->n_live_objects));
        }
        delete context;
    });
}

kc_status kc_context_info_get(kc_context* context, kc_context_info* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_struct(out, "out");
        kc_context_info info = {};
        info.size = sizeof info;
        info.live_bytes = context->live_bytes;
        info.n_live_objects = context->n_live_objects;
        info.n_allocations = context->n_allocations;
        context->backend.info(context->backend.self, &info);
        *out = info;
    });
}

kc_status kc_context_reserve(kc_context* context, int64_t n_tokens, int64_t n_cols) {
    return guard([&] {
        check_pointer(context, "context");
        check_shape({n_tokens, n_cols}, "n_tokens x n_cols");
        context->backend.reserve(context->backend.self, n_tokens, n_cols);
    });
}

kc_status kc_context_stream(kc_context* context, void** out_stream) {
    return guard([&] {
        check_pointer(context, "context");
        check_pointer(out_stream, "out_stream");
        *out_stream = context->backend.stream(context->backend.self);
    });
}

kc_status kc_context_sync(kc_context* context) {
    return guard([&] {
        check_pointer(context, "context");
        context->backend.sync(context->backend.self);
    });
}
