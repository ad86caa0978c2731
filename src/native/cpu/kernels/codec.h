// Purpose:  rows of K and V between floats and what a store keeps of them.
// Shapes:   a row [head_dim]; a block is 64 rows of one KV head, its layout chosen for the kernels that read it.
// Mapping:  one row at a time on append, one block at a time where kernels read coded pages.
// Traffic:  4 * head_dim bytes in, bits * head_dim / 8 + 2 out.
// Numerics: f16 to nearest even; what does not fit is reported, NaN becomes 0, the rest is held to +-65504. q8:
// integers
//           with the scale |y|max / 127. q4, q3, q2: levels of a Gaussian, the error at right angles to the row.
#pragma once

#include <stdint.h>

#include "core/rotation.h"
#include "kcache_ops.h"

namespace kc {

// Levels of a unit Gaussian that make the least error (Lloyd-Max), as integers; the code is the index.
constexpr int8_t kLevels2[16] = {-127, -38, 38, 127};
constexpr int8_t kLevels3[16] = {-127, -79, -45, -14, 14, 45, 79, 127};
constexpr int8_t kLevels4[16] = {-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127};

struct CodecBodies {
    // Returns true where every number of the row fits f16.
    bool (*to_f16)(const float* x, int64_t n, uint16_t* out);
    void (*from_f16)(const uint16_t* x, int64_t n, float* out);
    // Fixed signs, then Walsh-Hadamard over blocks of the largest power of two in head_dim; in place, orthogonal.
    void (*rotate)(float* x, int64_t head_dim);
    void (*rotate_back)(float* x, int64_t head_dim);
    // keys[d, t] of 64 rows of f16; keys [head_dim, 64].
    void (*transpose)(const uint8_t* rows, int64_t row_bytes, int64_t head_dim, float* keys);
    // The levels of a block of q4, q3 or q2 as signed bytes, in the order of codes.h; levels [64 * head_dim].
    void (*expand)(int32_t codec, const uint8_t* block, int64_t head_dim, int8_t* levels);
};

// A row that is rotated and centred, as integers of the codec [head_dim] and a scale in f16.
uint16_t quantize(int32_t codec, const float* y, int32_t head_dim, int8_t* numbers);

// Puts the integers of a row into a block, and takes them out.
void store_row(int32_t codec, bool is_v, uint8_t* block, int token, int32_t head_dim, const int8_t* numbers,
               uint16_t scale);
void load_row(int32_t codec, bool is_v, const uint8_t* block, int token, int32_t head_dim, int8_t* numbers);

// plain += the rotated sum of rows, less their centre, turned back: mass is the sum of their weights. Overwrites
// rotated.
void add_rotated(const CodecBodies& bodies, const float* centre, float mass, int32_t head_dim, float* rotated,
                 float* plain);

// f16 scales [64] of a coded block; they lie behind its codes.
uint16_t* block_scales(int32_t codec, uint8_t* block, int32_t head_dim);

// Integers of all rows of a coded block as floats: values [64, head_dim], or keys [head_dim, 64].
void load_block(const CodecBodies& bodies, int32_t codec, bool is_v, const uint8_t* block, int32_t head_dim,
                float* numbers);

}  // namespace kc
