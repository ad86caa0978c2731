// Purpose:  encode and store new rows: K store, V store or sketch, exact rows in their fast slots; and back, for tests.
// Shapes:   k, v [n_rows, n_kv_heads, head_dim]; blocks of 64 tokens, exact rows [kv_head, 64, row].
// Mapping:  a warp per new row and KV head; lanes stride over head_dim. Centres: a block per sequence and KV head,
//           between the rows of first pages and all others.
// Traffic:  n_rows * n_kv_heads * (8 * head_dim + bytes of the coded rows + bytes of the exact row).
// Numerics: rounded to f16 first (NaN becomes 0, what is too large the largest f16, both counted by row); coded rows
//           are coded from that.
#include "kernels/attention.h"

#include "device/codec.h"
#include "device/launch.h"

namespace kc::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kCentreThreads = 64;

struct Append {
    kc_layer_view layer;
    Frame frame;
    int64_t n_rows;  // of all sequences
    const float* k;
    const float* v;
    unsigned long long* n_nonfinite;
};

// The place of one new row.
struct Place {
    const kc_sequence_view* sequence;
    int page;
    int token;
    int64_t offset;  // in k and v
};
__device__ __forceinline__ Place find_place(const Append& a, int64_t row, int kv_head) {
    Place place;
    place.sequence = a.frame.sequences;
    for (; row >= place.sequence->n_rows; ++place.sequence) row -= place.sequence->n_rows;
    const int64_t position = place.sequence->n_past + row;
    // The pages of new rows are the last ones.
    place.page = place.sequence->n_pages - 1;
    while (place.sequence->pages[place.page].position > position) --place.page;
    place.token = static_cast<int>(position - place.sequence->pages[place.page].position);
    place.offset = ((place.sequence->first_row + row) * a.layer.n_kv_heads + kv_head) * a.layer.head_dim;
    return place;
}

// Loads a row into `values`, rounded to f16, and to `plain` where that is given; returns whether a number did not fit.
__device__ __forceinline__ bool take_row(const float* from, int head_dim, float* values, uint16_t* plain,
                                         uint16_t* second) {
    bool odd = false;
    for (int d = static_cast<int>(threadIdx.x) % kWarp; d < head_dim; d += kWarp) {
        const float x = from[d];
        odd = odd || !(fabsf(x) < 65520.f);
        const uint16_t bits = to_half(isnan(x) ? 0.f : fminf(fmaxf(x, -65504.f), 65504.f));
        values[d] = from_half(bits);
        if (plain != nullptr) plain[d] = bits;
        if (second != nullptr) second[d] = bits;
    }
    __syncwarp();
    return __any_sync(kAllLanes, odd) != 0;
}

__device__ __forceinline__ uint16_t* f16_row(uint8_t* block, int token, int head_dim) {
    return reinterpret_cast<uint16_t*>(block) + token * head_dim;
}

// Codes the row in `values` into a store.
__device__ void code_row(const kc_store& store, const Place& place, int kv_head, int head_dim, float* values) {
    uint8_t* block = store_block(store, *place.sequence, place.page, kv_head, head_dim);
    uint8_t* row = block + place.token * packed_row_bytes(store.codec, head_dim);
    uint16_t* scale = const_cast<uint16_t*>(block_scales(block, store.codec, head_dim)) + place.token;
    switch (store.codec) {
        case KC_CODEC_Q8:
            return encode_row<KC_CODEC_Q8>(values, head_dim, row, scale);
        case KC_CODEC_Q4:
            return encode_row<KC_CODEC_Q4>(values, head_dim, row, scale);
        case KC_CODEC_Q3:
            return encode_row<KC_CODEC_Q3>(values, head_dim, row, scale);
        default:
            return encode_row<KC_CODEC_Q2>(values, head_dim, row, scale);
    }
}

// Centred and rotated.
__device__ void turn_row(const kc_store& store, const Place& place, int kv_head, int head_dim, float* values) {
    rotate<WarpTeam>(values, head_dim);
    const float* centre = centre_of(store, *place.sequence, kv_head, head_dim);
    for (int d = static_cast<int>(threadIdx.x) % kWarp; d < head_dim; d += kWarp) values[d] -= centre[d];
    __syncwarp();
}

// first: 1, rows of first pages where the layer has those; 0, all others. One pass would not do: what comes behind the
// first page needs its centre, which may come from this very call.
__global__ void __launch_bounds__(kWarps* kWarp) append_rows(Append a, int first) {
    const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    const int kv_head = static_cast<int>(blockIdx.y), head_dim = a.layer.head_dim;
    if (row >= a.n_rows) return;  // a warp leaves together
    const Place place = find_place(a, row, kv_head);
    const kc_store &k = a.layer.k, &v = a.layer.v;
    const kc_exact_store& exact = a.layer.exact;
    const bool first_k = in_first_store(k, *place.sequence, place.page),
               first_v = in_first_store(v, *place.sequence, place.page);
    if (first != (first_k || first_v ? 1 : 0)) return;
    float* values = shared_memory<float>() + static_cast<int>(threadIdx.x) / kWarp * head_dim;

    uint8_t* exact_row = nullptr;
    if (exact.base != nullptr && !first_v)
        exact_row = exact_rows(exact, place.sequence->pages[place.page].exact, kv_head) + place.token * exact.row_bytes;
    const bool coded_k = !first_k && k.codec != KC_CODEC_F16,
               coded_v = !first_v && v.base != nullptr && v.codec != KC_CODEC_F16;
    int n_odd =
        take_row(a.k + place.offset, head_dim, values,
                 coded_k ? nullptr
                         : f16_row(f16_block(k, *place.sequence, place.page, kv_head, head_dim), place.token, head_dim),
                 exact_row != nullptr && exact.has_k ? reinterpret_cast<uint16_t*>(exact_row) : nullptr);
    if (coded_k) {
        turn_row(k, place, kv_head, head_dim, values);
        code_row(k, place, kv_head, head_dim, values);
    }
    __syncwarp();
    const bool plain_v = first_v || (v.base != nullptr && v.codec == KC_CODEC_F16);
    const bool exact_f16 = exact_row != nullptr && exact.v_codec == KC_CODEC_F16,
               exact_q8 = exact_row != nullptr && exact.v_codec == KC_CODEC_Q8;
    uint8_t* exact_v = exact_row != nullptr ? exact_row + value_offset_bytes(exact, head_dim) : nullptr;
    n_odd +=
        take_row(a.v + place.offset, head_dim, values,
                 plain_v ? f16_row(f16_block(v, *place.sequence, place.page, kv_head, head_dim), place.token, head_dim)
                         : nullptr,
                 exact_f16 ? reinterpret_cast<uint16_t*>(exact_v) : nullptr);
    if (coded_v || exact_q8) turn_row(v, place, kv_head, head_dim, values);
    if (exact_q8)
        encode_row<KC_CODEC_Q8>(values, head_dim, exact_v,
                                exact_scales(exact, *place.sequence, place.page, kv_head) + place.token);
    if (coded_v) code_row(v, place, kv_head, head_dim, values);
    if (n_odd > 0 && threadIdx.x % kWarp == 0) atomicAdd(a.n_nonfinite, static_cast<unsigned long long>(n_odd));
}

// The mean of the 64 rows of a first page, rotated.
__global__ void __launch_bounds__(kCentreThreads) set_centres(kc_layer_view layer, Frame frame) {
    const kc_sequence_view& sequence = frame.sequences[blockIdx.x];
    if (!sequence.set_centre || sequence.first_page < 0) return;
    const int kv_head = static_cast<int>(blockIdx.y), head_dim = layer.head_dim;
    const kc_store& store = blockIdx.z == 0 ? layer.k : layer.v;
    if (store.first == nullptr) return;
    float* mean = shared_memory<float>();
    const uint16_t* rows = reinterpret_cast<const uint16_t*>(first_block(store, sequence, kv_head, head_dim));
    for (int d = threadIdx.x; d < head_dim; d += kCentreThreads) {
        float sum = 0.f;
        for (int t = 0; t < kPageTokens; ++t) sum += from_half(rows[t * head_dim + d]);
        mean[d] = sum / kPageTokens;
    }
    rotate<BlockTeam>(mean, head_dim);
    float* centre = centre_of(store, sequence, kv_head, head_dim);
    for (int d = threadIdx.x; d < head_dim; d += kCentreThreads) centre[d] = mean[d];
}

__global__ void __launch_bounds__(kWarp)
    decode_rows(kc_layer_view layer, Frame frame, int32_t is_v, int32_t kv_head, int32_t first_token, float* out) {
    const kc_sequence_view& sequence = frame.sequences[0];
    const int token = first_token + static_cast<int>(blockIdx.x), page = token / kPageTokens, t = token % kPageTokens,
              head_dim = layer.head_dim;
    const kc_store& store = is_v ? layer.v : layer.k;
    const kc_exact_store& exact = layer.exact;
    const bool from_exact = is_v && store.base == nullptr && !in_first_store(store, sequence, page);
    int codec = store.codec;
    const uint8_t* row;
    const uint16_t* scale = nullptr;
    if (from_exact) {
        codec = exact.v_codec;
        row = exact_rows(exact, sequence.pages[page].exact, kv_head) + t * exact.row_bytes +
              value_offset_bytes(exact, head_dim);
        if (codec == KC_CODEC_Q8) scale = exact_scales(exact, sequence, page, kv_head) + t;
    } else if (in_first_store(store, sequence, page)) {
        codec = KC_CODEC_F16;
        row = first_block(store, sequence, kv_head, head_dim) + t * 2 * head_dim;
    } else {
        const uint8_t* block = store_block(store, sequence, page, kv_head, head_dim);
        row = block + t * packed_row_bytes(codec, head_dim);
        if (codec != KC_CODEC_F16) scale = block_scales(block, codec, head_dim) + t;
    }
    float* values = shared_memory<float>();
    for (int piece = threadIdx.x; piece < head_dim / 8; piece += kWarp) {
        Halves8 x;
        if (codec == KC_CODEC_F16)
            x = load_halves8(row + 16 * piece);
        else if (codec == KC_CODEC_Q8)
            x = load_levels8<KC_CODEC_Q8>(row, piece, head_dim);
        else if (codec == KC_CODEC_Q4)
            x = load_levels8<KC_CODEC_Q4>(row, piece, head_dim);
        else if (codec == KC_CODEC_Q3)
            x = load_levels8<KC_CODEC_Q3>(row, piece, head_dim);
        else
            x = load_levels8<KC_CODEC_Q2>(row, piece, head_dim);
        for (int i = 0; i < 8; ++i) {
            float value = x.x[i];
            if (scale != nullptr)
                value = fmaf(from_half(*scale), value, centre_of(store, sequence, kv_head, head_dim)[8 * piece + i]);
            values[8 * piece + i] = value;
        }
    }
    if (scale != nullptr)
        rotate_back<WarpTeam>(values, head_dim);
    else
        __syncwarp();
    for (int d = threadIdx.x; d < head_dim; d += kWarp)
        out[static_cast<int64_t>(blockIdx.x) * head_dim + d] = values[d];
}

}  // namespace

void kv_append(Context& context, const kc_kv_append_params& params) {
    const kc_layer_view& layer = *params.layer;
    int64_t n_rows = 0;
    bool sets_centre = false;
    for (int32_t s = 0; s < params.n_sequences; ++s) {
        n_rows += params.sequences[s].n_rows;
        sets_centre |= params.sequences[s].set_centre != 0;
    }
    if (n_rows == 0) return;
    context.join_push();
    const Append append = {layer,    context.frames().upload(params.sequences, params.n_sequences), n_rows, params.k,
                           params.v, reinterpret_cast<unsigned long long*>(params.n_nonfinite)};
    const auto heads = static_cast<unsigned>(layer.n_kv_heads);
    const dim3 grid(static_cast<unsigned>(ceil_div(n_rows, kWarps)), heads);
    const size_t row_bytes = static_cast<size_t>(layer.head_dim) * sizeof(float);
    if (layer.k.first || layer.v.first) {
        launch(append_rows, grid, kWarps * kWarp, kWarps * row_bytes, context.stream(), append, 1);
        if (sets_centre) {
            launch(set_centres, dim3(static_cast<unsigned>(params.n_sequences), heads, 2), kCentreThreads, row_bytes,
                   context.stream(), layer, append.frame);
        }
    }
    launch(append_rows, grid, kWarps * kWarp, kWarps * row_bytes, context.stream(), append, 0);
}

void kv_decode(Context& context, const kc_layer_view& layer, const kc_sequence_view& sequence, bool is_v,
               int32_t kv_head, int32_t first_token, int32_t n_tokens, float* out) {
    const Frame frame = context.frames().upload(&sequence, 1);
    launch(decode_rows, static_cast<unsigned>(n_tokens), kWarp, static_cast<size_t>(layer.head_dim) * sizeof(float),
           context.stream(), layer, frame, is_v ? 1 : 0, kv_head, first_token, out);
}

}  // namespace kc::cuda
