#include <memory>

#include "api/check.h"
#include "api/guard.h"
#include "core/context.h"

using namespace kc;

struct kc_buffer {
    kc_context* context;
    void* data;
    uint64_t n_bytes;
    bool owned;  // false: the host's memory, used in place
};

namespace {

void check_piece(const kc_buffer* buffer, uint64_t offset_bytes, const void* host, uint64_t n_bytes) {
    check_pointer(buffer, "buffer");
    if (n_bytes > 0) check_pointer(host, "host");
    if (offset_bytes > buffer->n_bytes || n_bytes > buffer->n_bytes - offset_bytes) {
        fail(KC_ERR_ARGUMENT, "offset_bytes %llu and n_bytes %llu reach behind the buffer, which has %llu bytes",
             static_cast<unsigned long long>(offset_bytes), static_cast<unsigned long long>(n_bytes),
             static_cast<unsigned long long>(buffer->n_bytes));
    }
}

}  // namespace

kc_status kc_buffer_create(kc_context* context, uint64_t n_bytes, kc_buffer** out) {
    return guard([&] {
        check_pointer(context, "context");
        check_pointer(out, "out");
        auto buffer = std::make_unique<kc_buffer>(kc_buffer{context, nullptr, n_bytes, true});
        buffer->data = context->allocate(n_bytes);
        ++context->n_live_objects;
        *out = buffer.release();
    });
}

kc_status kc_buffer_wrap(kc_context* context, const void* host, uint64_t n_bytes, kc_buffer** out) {
    return guard([&] {
        check_pointer(context, "context");
        check_pointer(host, "host");
        check_pointer(out, "out");
        auto buffer = std::make_unique<kc_buffer>(kc_buffer{context, nullptr, n_bytes, false});
        if (context->backend.kind == KC_BACKEND_CPU) {
            // Kernels read weights only; the address is handed out as any other buffer's.
            buffer->data = const_cast<void*>(host);
        } else {
            buffer->data = context->allocate(n_bytes);
            buffer->owned = true;
            try {
                context->backend.copy_to_device(context->backend.self, buffer->data, host, n_bytes);
            } catch (...) {
                context->release(buffer->data, n_bytes);
                throw;
            }
        }
        ++context->n_live_objects;
        *out = buffer.release();
    });
}

void* kc_buffer_data(kc_buffer* buffer) { return buffer ? buffer->data : nullptr; }

kc_status kc_buffer_write(kc_buffer* buffer, uint64_t offset_bytes, const void* host, uint64_t n_bytes) {
    return guard([&] {
        check_piece(buffer, offset_bytes, host, n_bytes);
        if (!buffer->owned)
            fail(KC_ERR_ARGUMENT, "buffer wraps memory of the host, which kernels only read: write there directly");
        if (n_bytes == 0) return;
        const Backend& backend = buffer->context->backend;
        backend.copy_to_device(backend.self, static_cast<char*>(buffer->data) + offset_bytes, host, n_bytes);
    });
}

kc_status kc_buffer_read(kc_buffer* buffer, uint64_t offset_bytes, void* host, uint64_t n_bytes) {
    return guard([&] {
        check_piece(buffer, offset_bytes, host, n_bytes);
        if (n_bytes == 0) return;
        const Backend& backend = buffer->context->backend;
        backend.copy_to_host(backend.self, host, static_cast<const char*>(buffer->data) + offset_bytes, n_bytes);
    });
}

void kc_buffer_destroy(kc_buffer* buffer) {
    if (!buffer) return;
    if (buffer->owned) buffer->context->release(buffer->data, buffer->n_bytes);
    --buffer->context->n_live_objects;
    delete buffer;
}
