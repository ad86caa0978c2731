// The CUDA backend: its column of the seam. Calls only enqueue work; sync and copies to the host wait for it.
#include <cstdio>
#include <memory>

#include "core/backends.h"
#include "device/launch.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "memory.h"

namespace kc {
namespace {

using cuda::check;
using cuda::Context;

// A context may be used by another thread than the one before it, and CUDA keeps its device by thread.
Context& on(void* self) {
    Context& context = *static_cast<Context*>(self);
    check(cudaSetDevice(context.device()), "choosing the device");
    return context;
}

// The stem `Stem(Context&, args...)` as a function of the seam.
template <auto Stem>
struct Forward;

template <class R, class... Args, R (*Stem)(Context&, Args...)>
struct Forward<Stem> {
    static R call(void* self, Args... args) { return Stem(on(self), args...); }
};

template <auto Stem>
constexpr auto forward = &Forward<Stem>::call;

void info(void* self, kc_context_info* out) {
    const Context& context = *static_cast<const Context*>(self);
    out->backend = KC_BACKEND_CUDA;
    out->n_threads = 1;
    out->activations = context.activations();
    std::snprintf(out->isa, sizeof out->isa, "%s", context.isa().c_str());
    std::snprintf(out->device, sizeof out->device, "%s", context.name().c_str());
    out->n_allocations += context.n_allocations();
}

// What is not offered has no size, and is refused where a cache or a layer asks for it.
uint64_t block_bytes(int32_t codec, int32_t head_dim) {
    if (codec < KC_CODEC_F16 || codec > KC_CODEC_Q2 || head_dim < 16 || head_dim > 256 || head_dim % 16 != 0) return 0;
    return static_cast<uint64_t>(cuda::codec_block_bytes(codec, head_dim));
}

}  // namespace

int32_t count_cuda_devices() {
    int n = 0;
    const cudaError_t error = cudaGetDeviceCount(&n);
    cudaGetLastError();
    if (error == cudaSuccess && n > 0) return n;
    fail(KC_ERR_UNSUPPORTED,
         "backend is KC_BACKEND_CUDA (2), but this machine has no device for it: %s; use KC_BACKEND_CPU (1) or "
         "KC_BACKEND_AUTO (0)",
         error != cudaSuccess ? cudaGetErrorString(error) : "the driver lists none");
}

void cuda_device_info(int32_t device, kc_device_info* out) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "asking for the device's properties");
    std::snprintf(out->isa, sizeof out->isa, "sm_%d%d", properties.major, properties.minor);
    std::snprintf(out->name, sizeof out->name, "%.*s", int{sizeof out->name} - 1, properties.name);
    int before = 0;
    check(cudaGetDevice(&before), "asking for the device");
    check(cudaSetDevice(device), "choosing the device");
    size_t n_free = 0, n_total = 0;
    const cudaError_t error = cudaMemGetInfo(&n_free, &n_total);
    cudaSetDevice(before);
    check(error, "asking for the device's memory");
    out->total_bytes = n_total;
    out->free_bytes = n_free;
}

Backend make_cuda_backend(const kc_context_desc& desc) {
    const int32_t n = count_cuda_devices();
    if (desc.device < 0 || desc.device >= n) {
        fail(KC_ERR_ARGUMENT, "desc->device is %d, but this machine has CUDA devices 0 to %d", desc.device, n - 1);
    }
    auto context = std::make_unique<Context>(desc.device, desc.activations);

    Backend backend = {};
    backend.kind = KC_BACKEND_CUDA;
    backend.host_sees_fast = false;
    backend.destroy = [](void* self) { delete static_cast<Context*>(self); };
    backend.info = info;
    backend.sync = [](void* self) { on(self).sync(); };
    backend.stream = [](void* self) -> void* {
        on(self).leave_record();
        return on(self).stream();
    };
    backend.reserve = forward<cuda::matmul_reserve>;
    backend.allocate = [](void* self, uint64_t n_bytes) {
        return cuda::device_allocate(on(self), n_bytes ? n_bytes : 1);
    };
    backend.release = [](void* self, void* memory, uint64_t) { cuda::device_release(on(self), memory); };
    backend.copy_to_device = [](void* self, void* to, const void* host, uint64_t n_bytes) {
        on(self).copy_to_device(to, host, n_bytes);
    };
    backend.copy_to_host = [](void* self, void* host, const void* from, uint64_t n_bytes) {
        on(self).copy_to_host(host, from, n_bytes);
    };
    backend.copy = [](void* self, void* to, const void* from, uint64_t n_bytes) {
        check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, on(self).begin_copy()),
              "copying in device memory");
    };
    backend.fill = [](void* self, void* to, uint8_t value, uint64_t n_bytes) {
        check(cudaMemsetAsync(to, value, n_bytes, on(self).begin_copy()), "filling device memory");
    };

    backend.spill_create = [](void* self, const char*) { return cuda::pinned_create(on(self)); };
    backend.takes_slow_home = true;
    backend.spill_reserve = cuda::pinned_reserve;
    backend.spill_write = cuda::pinned_write;
    backend.spill_read = cuda::pinned_read;
    backend.spill_read_end = cuda::pinned_read_end;
    backend.spill_destroy = cuda::pinned_destroy;

    backend.token_stride_unit = cuda::kSpanTokens;
    backend.replay_begin = [](void* self, const kc_wave& wave, uint64_t key, bool spilled, bool sets_centre) {
        Context& context = on(self);
        if (!context.replays().is_on()) return false;
        // Before a capture: what they do is not to be repeated.
        context.join_push();
        const cuda::Frame frame = context.frames().hold(wave);
        const bool replayed = context.replays().begin(
            {wave.layer, frame.sequences, frame.queries, key, wave.token_stride, wave.n_queries, spilled, sets_centre});
        if (replayed) context.frames().let_go();
        return replayed;
    };
    backend.replay_end = [](void* self, bool keep) {
        on(self).frames().let_go();
        on(self).replays().end(keep);
    };
    backend.replay_drop = [](void* self) {
        on(self).frames().let_go();
        on(self).replays().drop();
    };
    backend.replay_forget = [](void* self, const kc_layer_view* layers) {
        on(self).drain();
        on(self).replays().forget(layers);
    };

    backend.rms_norm = forward<cuda::rms_norm>;
    backend.rope_table = forward<cuda::rope_table>;
    backend.rope = forward<cuda::rope>;
    backend.swiglu = forward<cuda::swiglu>;
    backend.add = forward<cuda::add>;
    backend.embed = forward<cuda::embed>;
    backend.softmax = forward<cuda::softmax>;
    backend.argmax = forward<cuda::argmax>;
    backend.matmul = forward<cuda::matmul>;
    backend.matrix_expand = forward<cuda::matrix_expand>;
    backend.kv_append = forward<cuda::kv_append>;
    backend.kv_decode = forward<cuda::kv_decode>;
    backend.attention_full = forward<cuda::attention_full>;
    backend.attention_score = forward<cuda::attention_score>;
    backend.select_topn = forward<cuda::select_topn>;
    backend.hot_drop = forward<cuda::hot_drop>;
    backend.row_restore_begin = forward<cuda::row_restore_begin>;
    backend.row_restore_end = forward<cuda::row_restore_end>;
    backend.attention_mix = forward<cuda::attention_mix>;
    backend.block_bytes = block_bytes;
    backend.hot_state_bytes = cuda::hot_state_bytes;
    backend.attention_full_scratch_bytes = forward<cuda::attention_full_scratch_bytes>;
    backend.attention_score_scratch_bytes = forward<cuda::attention_score_scratch_bytes>;
    backend.select_topn_scratch_bytes = forward<cuda::select_topn_scratch_bytes>;
    backend.row_restore_scratch_bytes = forward<cuda::row_restore_scratch_bytes>;
    backend.attention_mix_scratch_bytes = forward<cuda::attention_mix_scratch_bytes>;
    backend.self = context.release();
    return backend;
}

}  // namespace kc
