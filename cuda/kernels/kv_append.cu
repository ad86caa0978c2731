// Purpose:  encode and store new rows: K store, V store, exact rows in their fast slots; and back again, for tests.
// Shapes:   k, v [n_rows, n_kv_heads, head_dim]; blocks of 64 tokens, exact rows [kv_head, 64, row].
// Mapping:  a warp per new row and KV head; lanes stride over head_dim.
// Traffic:  n_rows * n_kv_heads * (8 * head_dim + bytes of the coded rows + bytes of the exact row).
// Numerics: rounded to f16; NaN becomes 0 and what is too large the largest f16, both counted by row.
#include "kernels/attention.h"

#include "device/half.h"
#include "device/launch.h"
#include "device/warp.h"

namespace kc::cuda {
namespace {

constexpr int kWarps = 4;

struct Append {
    kc_layer_view layer;
    Frame frame;
    int32_t n_sequences;
    int64_t n_rows;  // of all sequences
    const float* k;
    const float* v;
    unsigned long long* n_nonfinite;
};

// The row as f16 to up to two places; returns whether a number did not fit.
__device__ __forceinline__ bool store_row(const float* from, int head_dim, uint16_t* first, uint16_t* second) {
    bool odd = false;
    for (int d = threadIdx.x % kWarp; d < head_dim; d += kWarp) {
        const float x = from[d];
        odd = odd || !(fabsf(x) < 65520.f);
        const uint16_t bits = to_half(isnan(x) ? 0.f : fminf(fmaxf(x, -65504.f), 65504.f));
        if (first != nullptr) first[d] = bits;
        if (second != nullptr) second[d] = bits;
    }
    return __any_sync(kAllLanes, odd) != 0;
}

__global__ void __launch_bounds__(kWarps * kWarp) append_rows(Append a) {
    const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    const int kv_head = blockIdx.y, head_dim = a.layer.head_dim;
    if (row >= a.n_rows) return;  // a warp leaves together
    int s = 0;
    int64_t r = row;
    for (; r >= a.frame.sequences[s].n_rows; ++s) r -= a.frame.sequences[s].n_rows;
    const kc_sequence_view& sequence = a.frame.sequences[s];
    const int64_t position = sequence.n_past + r;
    // The pages of new rows are the last ones.
    int page = sequence.n_pages - 1;
    while (sequence.pages[page].position > position) --page;
    const int token = static_cast<int>(position - sequence.pages[page].position);
    const int64_t offset = ((sequence.first_row + r) * a.layer.n_kv_heads + kv_head) * head_dim;

    uint8_t* exact = nullptr;
    if (a.layer.exact.base != nullptr && !in_first_store(a.layer.v, sequence, page)) {
        exact = exact_rows(a.layer.exact, sequence.pages[page].exact, kv_head) + token * a.layer.exact.row_bytes;
    }
    uint16_t* k = reinterpret_cast<uint16_t*>(f16_block(a.layer.k, sequence, page, kv_head, head_dim)) + token * head_dim;
    uint16_t* v = nullptr;
    if (a.layer.v.base != nullptr || in_first_store(a.layer.v, sequence, page)) {
        v = reinterpret_cast<uint16_t*>(f16_block(a.layer.v, sequence, page, kv_head, head_dim)) + token * head_dim;
    }
    int n_odd = store_row(a.k + offset, head_dim, k, exact != nullptr && a.layer.exact.has_k ? reinterpret_cast<uint16_t*>(exact) : nullptr);
    n_odd += store_row(a.v + offset, head_dim, v,
                       exact != nullptr ? reinterpret_cast<uint16_t*>(exact + value_offset_bytes(a.layer.exact, head_dim)) : nullptr);
    if (n_odd > 0 && threadIdx.x % kWarp == 0) atomicAdd(a.n_nonfinite, static_cast<unsigned long long>(n_odd));
}

__global__ void decode_rows(kc_layer_view layer, Frame frame, int32_t is_v, int32_t kv_head, int32_t first_token, float* out) {
    const kc_sequence_view& sequence = frame.sequences[0];
    const int token = first_token + static_cast<int>(blockIdx.x), page = token / kPageTokens;
    const uint8_t* row;
    if (is_v && layer.v.base == nullptr && !in_first_store(layer.v, sequence, page)) {
        row = exact_rows(layer.exact, sequence.pages[page].exact, kv_head) + token % kPageTokens * layer.exact.row_bytes +
              value_offset_bytes(layer.exact, layer.head_dim);
    } else {
        row = f16_block(is_v ? layer.v : layer.k, sequence, page, kv_head, layer.head_dim) + token % kPageTokens * 2 * layer.head_dim;
    }
    for (int d = threadIdx.x; d < layer.head_dim; d += blockDim.x) {
        out[static_cast<int64_t>(blockIdx.x) * layer.head_dim + d] = from_half(reinterpret_cast<const uint16_t*>(row)[d]);
    }
}

}  // namespace

void kv_append(Context& context, const kc_kv_append_params& params) {
    int64_t n_rows = 0;
    for (int32_t s = 0; s < params.n_sequences; ++s) n_rows += params.sequences[s].n_rows;
    if (n_rows == 0) return;
    const Append append = {*params.layer, context.frames().upload(params.sequences, params.n_sequences), params.n_sequences, n_rows,
                           params.k, params.v, reinterpret_cast<unsigned long long*>(params.n_nonfinite)};
    launch(append_rows, dim3(static_cast<unsigned>(ceil_div(n_rows, kWarps)), static_cast<unsigned>(params.layer->n_kv_heads)),
           kWarps * kWarp, 0, context.stream(), append);
}

void kv_decode(Context& context, const kc_layer_view& layer, const kc_sequence_view& sequence, bool is_v, int32_t kv_head,
               int32_t first_token, int32_t n_tokens, float* out) {
    const Frame frame = context.frames().upload(&sequence, 1);
    launch(decode_rows, static_cast<unsigned>(n_tokens), 64, 0, context.stream(), layer, frame, is_v ? 1 : 0, kv_head, first_token, out);
}

}  // namespace kc::cuda
