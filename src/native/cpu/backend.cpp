// The CPU backend: its column of the seam. Everything is finished when a call returns.
#include <cstring>
#include <memory>
#include <string>

#include "core/backends.h"
#include "core/error.h"
#include "cpu/context.h"
#include "cpu/device.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/matmul.h"
#include "cpu/kernels/stems.h"
#include "cpu/memory/ram.h"
#include "cpu/memory/spill.h"

namespace kc {
namespace {

CpuContext& cpu(void* self) { return *static_cast<CpuContext*>(self); }

// The stem `Stem(CpuContext&, args...)` as a function of the seam.
template <auto Stem>
struct Forward;

template <class R, class... Args, R (*Stem)(CpuContext&, Args...)>
struct Forward<Stem> {
    static R call(void* self, Args... args) { return Stem(cpu(self), args...); }
};

template <auto Stem>
constexpr auto forward = &Forward<Stem>::call;

void info(void* self, kc_context_info* out) {
    const CpuContext& context = cpu(self);
    out->backend = KC_BACKEND_CPU;
    out->n_threads = context.pool.n_threads();
    out->activations = context.activations;
    std::snprintf(out->isa, sizeof out->isa, "%s", context.kernels->name);
    std::snprintf(out->device, sizeof out->device, "%s", cpu_name().c_str());
    out->n_allocations += context.scratch.n_allocations();
}

kc_spill* spill_create(void*, const char* dir) { return new Spill(dir); }
Spill& as_spill(kc_spill* spill) { return *static_cast<Spill*>(spill); }

void checked_embed(void* self, const kc_matrix& table, const int32_t* ids, int64_t n_tokens, float* out) {
    for (int64_t t = 0; t < n_tokens; ++t) {
        if (ids[t] >= 0 && ids[t] < table.n_rows) continue;
        fail(KC_ERR_ARGUMENT, "ids[%lld] is %d, but the table has rows 0 to %lld", static_cast<long long>(t), ids[t],
             static_cast<long long>(table.n_rows - 1));
    }
    embed(cpu(self), table, ids, n_tokens, out);
}

}  // namespace

Backend make_cpu_backend(const kc_context_desc& desc) {
    if (desc.device != 0)
        fail(KC_ERR_ARGUMENT, "desc->device is %d, but the CPU backend has device 0 only", desc.device);
    auto context = std::make_unique<CpuContext>(desc.n_threads, desc.activations);

    Backend backend = {};
    backend.kind = KC_BACKEND_CPU;
    backend.host_sees_fast = true;
    backend.destroy = [](void* self) { delete static_cast<CpuContext*>(self); };
    backend.info = info;
    backend.sync = [](void*) {};
    backend.stream = [](void*) -> void* { return nullptr; };
    backend.allocate = [](void*, uint64_t n_bytes) { return ram_allocate(n_bytes); };
    backend.release = [](void*, void* memory, uint64_t n_bytes) { ram_release(memory, n_bytes); };
    backend.copy = [](void*, void* to, const void* from, uint64_t n_bytes) { std::memcpy(to, from, n_bytes); };
    backend.copy_to_device = backend.copy;
    backend.copy_to_host = backend.copy;
    backend.fill = [](void*, void* to, uint8_t value, uint64_t n_bytes) { std::memset(to, value, n_bytes); };

    backend.spill_create = spill_create;
    backend.spill_reserve = [](kc_spill* spill, uint64_t n_bytes) { as_spill(spill).reserve(n_bytes); };
    backend.spill_write = [](kc_spill* spill, const Backend::Move* moves, int64_t n) {
        as_spill(spill).write(moves, n);
    };
    backend.spill_read = [](kc_spill* spill, const Backend::Move* moves, int64_t n) { as_spill(spill).read(moves, n); };
    backend.spill_read_end = [](kc_spill*) {};
    backend.spill_destroy = [](kc_spill* spill) { delete static_cast<Spill*>(spill); };

    backend.token_stride_unit = kPageTokens;

    backend.rms_norm = forward<rms_norm>;
    backend.rope_table = forward<rope_table>;
    backend.rope = forward<rope>;
    backend.swiglu = forward<swiglu>;
    backend.add = forward<add>;
    backend.softmax = forward<softmax>;
    backend.argmax = forward<argmax>;
    backend.reserve = forward<matmul_reserve>;
    backend.embed = checked_embed;
    backend.matmul = forward<matmul>;
    backend.matrix_expand = forward<matrix_expand>;
    backend.kv_append = forward<kv_append>;
    backend.kv_decode = forward<kv_decode>;
    backend.attention_full = forward<attention_full>;
    backend.attention_score = forward<attention_score>;
    backend.select_topn = forward<select_topn>;
    backend.hot_drop = forward<hot_drop>;
    backend.row_restore_begin = forward<row_restore_begin>;
    backend.row_restore_end = forward<row_restore_end>;
    backend.attention_mix = forward<attention_mix>;
    backend.block_bytes = block_bytes;
    backend.hot_state_bytes = hot_state_bytes;
    backend.attention_full_scratch_bytes = forward<attention_full_scratch_bytes>;
    backend.attention_score_scratch_bytes = forward<attention_score_scratch_bytes>;
    backend.select_topn_scratch_bytes = forward<select_topn_scratch_bytes>;
    backend.row_restore_scratch_bytes = forward<row_restore_scratch_bytes>;
    backend.attention_mix_scratch_bytes = forward<attention_mix_scratch_bytes>;
    backend.self = context.release();
    return backend;
}

}  // namespace kc
