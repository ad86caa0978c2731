// Purpose:  out = x . W^T for one to four matrices that share x, with bias and accumulation; rows of W as floats for
// embed. Shapes:   x [n_tokens, n_cols], W [n_rows, n_cols], out [n_tokens, n_rows]. Mapping:  groups of 8 rows of all
// matrices over the pool, every group against all tokens. One token: weights stream from
//           memory once, as several streams of rows side by side. More: a group is unpacked once into the worker's
//           scratch and meets tiles of tokens.
// Traffic:  bytes of W once + 4 * n_tokens * (n_cols + n_rows) * (2 for the outputs that accumulate).
// Numerics: x as floats: kLanes partial sums over the columns, then a fixed tree. x in 8 bits: exact integer sums per
// block of
//           32 columns, times both scales, added up in f32 in ascending order. Neither depends on tokens, tiles or
//           threads.
#pragma once

#include <stdint.h>

#include "kcache_ops.h"

namespace kc {

struct CpuContext;

// The activations of one call.
struct MatMulInput {
    int64_t n_tokens;
    int64_t n_cols;
    const float* x;  // [n_tokens, n_cols], rows x_stride apart
    int64_t x_stride;
    // In 8 bits per block of 32 columns, x = scale * q; or nullptr.
    const int8_t* q;       // [n_tokens, n_cols]
    const float* scale;    // [n_tokens, n_cols / 32]
    const int32_t* q_sum;  // [n_tokens, n_cols / 32]: sum of q
    const float* x_sum;    // [n_tokens, n_cols / 32]: scale * q_sum
};

// Rows of one matrix. For tiles of tokens: rows [begin, end), begin a multiple of 8. For few tokens the matrix is cut
// into streams of stream_rows rows, and what is meant are rows [begin, end) of every stream: a core that reads memory
// from one end to the other waits at every page; of several streams some always have data at hand.
struct MatMulRows {
    const uint8_t* weight;  // row 0
    int64_t row_bytes;
    int64_t n_rows;       // of the matrix
    int64_t stream_rows;  // 0: tiles. The last streams may be shorter, or empty
    int64_t stream_skew;  // row i of stream s is its (i + s * skew) % stream_rows
    int64_t begin;
    int64_t end;
    const float* bias;  // [n_rows], or nullptr
    float* out;         // [n_tokens, n_rows], rows out_stride apart
    int64_t out_stride;
    int32_t accumulate;
};

struct WeightBodies {
    int32_t type;  // KC_TYPE_*
    int32_t block;
    int32_t block_bytes;
    // A row as floats.
    void (*decode)(const uint8_t* row, int64_t n_cols, float* out);
    // The product with x as floats; scratch: float_scratch_bytes(n_cols).
    void (*multiply_floats)(const MatMulInput* input, const MatMulRows* rows, void* scratch);
    // The product with x in 8 bits, nullptr where the type always takes floats; scratch: byte_scratch_bytes(n_cols).
    void (*multiply_bytes)(const MatMulInput* input, const MatMulRows* rows, void* scratch);
};

constexpr int kWeightTypes = 6;
constexpr int kMatMulGroup = 8;
// Rows that are unpacked together, so that a block of tokens, once in the second-level cache, serves all of them.
constexpr int kMatMulPanel = 32;

// The streams into which a matrix is cut for n_tokens tokens up to most_tokens.
struct MatMulStreams {
    int32_t n_streams;
    int64_t most_tokens;
};

struct MatMulBodies {
    WeightBodies weights[kWeightTypes];
    MatMulStreams byte_streams;
    MatMulStreams float_streams;
    // One token into 8 bits. A block that holds a NaN or an infinity gets a NaN as its scale.
    void (*quantise)(const float* x, int64_t n_cols, int8_t* q, float* scale, int32_t* q_sum, float* x_sum);
};

constexpr uint64_t matmul_float_scratch_bytes(int64_t n_cols) {
    return static_cast<uint64_t>(n_cols) * 4 * kMatMulPanel;
}
// Bytes of a panel, and 8 scales and 8 minima for every block of a group.
constexpr uint64_t matmul_byte_scratch_bytes(int64_t n_cols) {
    return static_cast<uint64_t>(n_cols / 32 + 1) * kMatMulPanel * (32 + 4 + 4);
}

// The bodies for a type of weights, or nullptr for a type that is not offered.
const WeightBodies* find_weight(const MatMulBodies& bodies, int32_t type);

// kc_matmul, kc_embed and kc_matrix_expand on the CPU. Arguments have been checked.
void matmul(CpuContext& context, const kc_matmul_params& params);
void embed(CpuContext& context, const kc_matrix& table, const int32_t* ids, int64_t n_tokens, float* out);
void matrix_expand(CpuContext& context, const kc_matrix& weight, int64_t first_row, int64_t n_rows, float* out);
// Grows the context's scratch for inputs up to [n_tokens, n_cols].
void matmul_reserve(CpuContext& context, int64_t n_tokens, int64_t n_cols);

}  // namespace kc
