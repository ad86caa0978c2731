// Purpose:  out = x . W^T for one to four matrices that share x, with bias and accumulation.
// Shapes:   x [n_tokens, n_cols], W [n_rows, n_cols], out [n_tokens, n_rows].
// Mapping:  a warp per row of W and tile of tokens; a lane takes every 32nd piece of the row (8 columns of floats, or a
//           block of 32). Weights go straight from the file's layout to registers and meet all tokens of the tile
//           there.
// Traffic:  bytes of W once per tile of 8 tokens + 4 * n_tokens * (n_cols + n_rows) * (2 for outputs that accumulate).
// Numerics: x in 8 bits against weights in blocks: exact integer sums per block, times both scales, in float; else
//           float. The order of the sums depends on n_cols only, never on tokens or tiles.
#include "kernels/matmul.h"

#include "device/launch.h"
#include "device/warp.h"
#include "kernels/weight_types.h"

namespace kc::cuda {
namespace {

constexpr int kWarps = 4;      // rows a block
constexpr int kTokenTile = 8;  // tokens that share a pass over the weights
constexpr int kQuantThreads = 128;

// The activations of one call.
struct Input {
    const float* x;
    int64_t x_stride;
    const int8_t* q;     // [n_tokens, n_cols], x = scale * q by blocks of 32; NULL: x as it is
    const float* scale;  // [n_tokens, n_cols / 32]
    int64_t n_tokens;
    int64_t n_cols;
};
struct Output {
    const uint8_t* weight;
    const float* bias;
    float* out;
    int64_t n_rows;
    int64_t out_stride;
    int32_t accumulate;
};

// A token's block of 32 by one warp: its largest element becomes 127. A block that holds a NaN or an infinity gets a
// NaN as scale.
__global__ void __launch_bounds__(kQuantThreads)
    quantise(const float* x, int64_t x_stride, int64_t n_cols, int64_t n, int8_t* q, float* scale) {
    const int64_t block = static_cast<int64_t>(blockIdx.x) * (kQuantThreads / kWarp) + threadIdx.x / kWarp;
    const int64_t n_blocks = n_cols / kBlockWeights;
    const int lane = threadIdx.x % kWarp;
    // All lanes of a warp have the same block, so a warp leaves together.
    if (block >= n) return;
    const int64_t token = block / n_blocks, b = block % n_blocks;
    const float v = x[token * x_stride + b * kBlockWeights + lane];
    const float most = lanes_max(isfinite(v) ? fabsf(v) : 0.f);
    const float poison = lanes_sum(v * 0.f);
    const float inverse = most > 1e-30f ? 127.f / most : 0.f;
    const float level = fminf(fmaxf(rintf(v * inverse), -127.f), 127.f);
    q[token * n_cols + b * kBlockWeights + lane] = static_cast<int8_t>(isfinite(v) ? static_cast<int>(level) : 0);
    if (lane == 0) scale[block] = (inverse != 0.f ? most / 127.f : 0.f) + poison;
}

// A block of weights as signed bytes and what turns them into weights: scale * byte + minimum.
struct ByteBlock {
    int bytes[8];
    float scale;
    float minimum;
};
template <int kType>
__device__ __forceinline__ ByteBlock load_block(const uint8_t* block) {
    ByteBlock out;
    out.scale = from_half(load_u16(block));
    out.minimum = kType == KC_TYPE_Q4_1 ? from_half(load_u16(block + 2)) : 0.f;
    if constexpr (kType == KC_TYPE_Q8_0) {
#pragma unroll
        for (int i = 0; i < 8; ++i) out.bytes[i] = static_cast<int>(load_u32(block + 2 + 4 * i));
    } else {
        const uint8_t* nibbles = block + (kType == KC_TYPE_Q4_1 ? 4 : 2);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const uint32_t packed = load_u32(nibbles + 4 * i);
            // 8 less in every byte, without a borrow between bytes: 0..15 plus 0x78 flips the top bit instead.
            const uint32_t low = packed & 0x0f0f0f0fu, high = packed >> 4 & 0x0f0f0f0fu;
            out.bytes[i] = static_cast<int>(kType == KC_TYPE_Q4_0 ? (low + 0x78787878u) ^ 0x80808080u : low);
            out.bytes[i + 4] = static_cast<int>(kType == KC_TYPE_Q4_0 ? (high + 0x78787878u) ^ 0x80808080u : high);
        }
    }
    return out;
}

template <int kType>
__device__ __forceinline__ void add_blocks_bytes(const uint8_t* row, const Input& input, int64_t token, int n_tokens,
                                                 float (&sums)[kTokenTile]) {
    const int64_t n_blocks = input.n_cols / kBlockWeights;
    for (int64_t b = threadIdx.x % kWarp; b < n_blocks; b += kWarp) {
        const ByteBlock w = load_block<kType>(row + b * kBlockBytes<kType>);
#pragma unroll
        for (int t = 0; t < kTokenTile; ++t) {
            if (t >= n_tokens) break;
            const int4* q = reinterpret_cast<const int4*>(input.q + (token + t) * input.n_cols + b * kBlockWeights);
            const int4 a = q[0], c = q[1];
            const int x[8] = {a.x, a.y, a.z, a.w, c.x, c.y, c.z, c.w};
            int dot = 0, sum = 0;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                dot = __dp4a(w.bytes[i], x[i], dot);
                if (kType == KC_TYPE_Q4_1) sum = __dp4a(0x01010101, x[i], sum);
            }
            const float scale = input.scale[(token + t) * n_blocks + b];
            sums[t] = fmaf(w.scale * scale, static_cast<float>(dot), sums[t]);
            if (kType == KC_TYPE_Q4_1) sums[t] = fmaf(w.minimum, scale * static_cast<float>(sum), sums[t]);
        }
    }
}

template <int kType>
__device__ __forceinline__ void add_blocks_floats(const uint8_t* row, const Input& input, int64_t token, int n_tokens,
                                                  float (&sums)[kTokenTile]) {
    for (int64_t b = threadIdx.x % kWarp; b < input.n_cols / kBlockWeights; b += kWarp) {
        const ByteBlock w = load_block<kType>(row + b * kBlockBytes<kType>);
#pragma unroll
        for (int i = 0; i < kBlockWeights; ++i) {
            const float weight =
                fmaf(w.scale, static_cast<float>(static_cast<int8_t>(w.bytes[i / 4] >> (i % 4 * 8))), w.minimum);
#pragma unroll
            for (int t = 0; t < kTokenTile; ++t) {
                if (t >= n_tokens) break;
                sums[t] = fmaf(weight, input.x[(token + t) * input.x_stride + b * kBlockWeights + i], sums[t]);
            }
        }
    }
}

// Eight columns from c on, those behind n_cols as zeros.
template <int kType>
__device__ __forceinline__ Halves8 load_columns(const uint8_t* row, int64_t c, int64_t n_cols) {
    Halves8 out;
    if (kType == KC_TYPE_F16 && c + 8 <= n_cols && (reinterpret_cast<uintptr_t>(row + 2 * c) & 15) == 0)
        return load_halves8(row + 2 * c);
#pragma unroll
    for (int i = 0; i < 8; ++i) out.x[i] = c + i < n_cols ? weight_at<kType>(row, c + i) : 0.f;
    return out;
}

template <int kType>
__device__ __forceinline__ void add_columns(const uint8_t* row, const Input& input, int64_t token, int n_tokens,
                                            float (&sums)[kTokenTile]) {
    for (int64_t c = threadIdx.x % kWarp * 8; c < input.n_cols; c += kWarp * 8) {
        const Halves8 w = load_columns<kType>(row, c, input.n_cols);
#pragma unroll
        for (int t = 0; t < kTokenTile; ++t) {
            if (t >= n_tokens) break;
            const float* x = input.x + (token + t) * input.x_stride + c;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (c + i < input.n_cols) sums[t] = fmaf(w.x[i], x[i], sums[t]);
            }
        }
    }
}

template <int kType>
__global__ void __launch_bounds__(kWarps* kWarp) multiply(Input input, Output output) {
    const int64_t r = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
    if (r >= output.n_rows) return;  // a warp leaves together
    const int64_t token = static_cast<int64_t>(blockIdx.y) * kTokenTile;
    const int n_tokens = static_cast<int>(min(static_cast<int64_t>(kTokenTile), input.n_tokens - token));
    const uint8_t* row = output.weight + r * row_bytes<kType>(input.n_cols);
    float sums[kTokenTile] = {};
    if constexpr (kIsBlocked<kType>) {
        if (input.q != nullptr)
            add_blocks_bytes<kType>(row, input, token, n_tokens, sums);
        else
            add_blocks_floats<kType>(row, input, token, n_tokens, sums);
    } else {
        add_columns<kType>(row, input, token, n_tokens, sums);
    }
#pragma unroll
    for (int t = 0; t < kTokenTile; ++t) {
        if (t >= n_tokens) break;
        float sum = lanes_sum(sums[t]);
        if (threadIdx.x % kWarp != 0) continue;
        float* out = output.out + (token + t) * output.out_stride + r;
        if (output.bias != nullptr) sum += output.bias[r];
        *out = output.accumulate ? *out + sum : sum;
    }
}

// A thread a weight, so that neighbours read neighbours.
template <int kType>
__global__ void __launch_bounds__(kQuantThreads) expand(const uint8_t* rows, int64_t n_cols, int64_t n, float* out) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kQuantThreads + threadIdx.x;
    if (i < n) out[i] = weight_at<kType>(rows + i / n_cols * row_bytes<kType>(n_cols), i % n_cols);
}

bool is_blocked(int32_t type) { return type == KC_TYPE_Q8_0 || type == KC_TYPE_Q4_0 || type == KC_TYPE_Q4_1; }

uint64_t quantised_bytes(int64_t n_tokens, int64_t n_cols) {
    return static_cast<uint64_t>(round_up(n_tokens * n_cols, 64) + n_tokens * ceil_div(n_cols, kBlockWeights) * 4);
}

}  // namespace

void matmul_reserve(Context& context, int64_t n_tokens, int64_t n_cols) {
    context.matmul_scratch(quantised_bytes(n_tokens, n_cols));
}

void matmul(Context& context, const kc_matmul_params& params) {
    Input input = {params.x,     params.x_stride ? params.x_stride : params.n_cols, nullptr, nullptr, params.n_tokens,
                   params.n_cols};
    Input quantised = input;
    for (int32_t i = 0; i < params.n_outputs; ++i) {
        const kc_matmul_output& given = params.outputs[i];
        const bool in_bytes = is_blocked(given.weight.type) && context.activations() == KC_ACTIVATIONS_Q8;
        if (in_bytes && quantised.q == nullptr) {
            auto* scratch =
                static_cast<uint8_t*>(context.matmul_scratch(quantised_bytes(params.n_tokens, params.n_cols)));
            auto* scale = reinterpret_cast<float*>(scratch + round_up(params.n_tokens * params.n_cols, 64));
            auto* q = reinterpret_cast<int8_t*>(scratch);
            const int64_t n = params.n_tokens * (params.n_cols / kBlockWeights);
            launch(quantise, static_cast<unsigned>(ceil_div(n, kQuantThreads / kWarp)), kQuantThreads, 0,
                   context.stream(), input.x, input.x_stride, input.n_cols, n, q, scale);
            quantised.q = q;
            quantised.scale = scale;
        }
        const Output output = {static_cast<const uint8_t*>(given.weight.data),
                               given.bias,
                               given.out,
                               given.weight.n_rows,
                               given.out_stride ? given.out_stride : given.weight.n_rows,
                               given.accumulate};
        // A grid has at most 65535 blocks in y.
        constexpr int64_t kMostTokens = int64_t{65535} * kTokenTile;
        for (int64_t token = 0; token < params.n_tokens; token += kMostTokens) {
            Input part = in_bytes ? quantised : input;
            Output into = output;
            part.n_tokens = params.n_tokens - token < kMostTokens ? params.n_tokens - token : kMostTokens;
            part.x += token * part.x_stride;
            if (part.q) part.q += token * part.n_cols, part.scale += token * (part.n_cols / kBlockWeights);
            into.out += token * into.out_stride;
            const dim3 grid(static_cast<unsigned>(ceil_div(output.n_rows, kWarps)),
                            static_cast<unsigned>(ceil_div(part.n_tokens, kTokenTile)));
            for_weight_type(given.weight.type, [&](auto type) {
                launch(multiply<decltype(type)::value>, grid, kWarps * kWarp, 0, context.stream(), part, into);
            });
        }
    }
}

void matrix_expand(Context& context, const kc_matrix& weight, int64_t first_row, int64_t n_rows, float* out) {
    const int64_t n = n_rows * weight.n_cols;
    for_weight_type(weight.type, [&](auto type) {
        constexpr int kType = decltype(type)::value;
        launch(expand<kType>, static_cast<unsigned>(ceil_div(n, kQuantThreads)), kQuantThreads, 0, context.stream(),
               static_cast<const uint8_t*>(weight.data) + first_row * row_bytes<kType>(weight.n_cols), weight.n_cols, n,
               out);
    });
}

}  // namespace kc::cuda
