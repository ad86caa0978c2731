// How attention_full cuts its work, and what a block of it keeps in shared memory.
#pragma once

#include "core/params.h"
#include "device/tensor.h"
#include "device/warp.h"

namespace kc::cuda {

constexpr int kRows = 16;
constexpr int kRowThreads = 16;
constexpr int kThreads = kRows * kRowThreads;
constexpr int kScores = kPageTokens / kRowThreads;
constexpr int kMaxDims = 256 / kRowThreads;
// Rows in shared memory are 16 bytes longer than what they hold, so that adjacent rows meet no bank twice.
constexpr int kPad = 8;
constexpr int kFloatPad = 4;
constexpr int kScoreStride = kPageTokens + kFloatPad;
constexpr int kWeightStride = kPageTokens + kPad;
constexpr int kKeyTiles = kPageTokens / kTile;
constexpr int kDepthParts = kThreads / kWarp / kKeyTiles;
// Weights are at most 1; as halves they are this much larger, so that those of 1e-10 still count.
constexpr float kLift = 256.f;
static_assert(kRows == kTile && kDepthParts == 2, "eight warps: four tiles of keys times two parts of head_dim");

// A page in shared memory. A coded row is levels * 2^e, which halves hold exactly, and what is left of its scale.
struct Page {
    uint16_t* rows;  // [64, head_dim + pad]
    float* scales;   // [64], of coded rows
};

// The exponent that goes to the levels: up to 127 * 2^8, so that a weight, lifted, times the rest is a half too.
__device__ __forceinline__ float level_factor(float scale) {
    const int exponent = static_cast<int>(__float_as_uint(scale) >> 23 & 255u) - 127;
    return __uint_as_float(static_cast<unsigned>(min(max(exponent, -14), 8) + 127) << 23);
}

// The shared memory of a block.
struct Shared {
    float* work;     // [16, head_dim + pad]: queries while they are rotated, then sums of a page
    float* scores;   // [2, 16, 64 + pad]: by part of head_dim
    float* centred;  // [16]: q . centre
    SplitRows q;     // [16, head_dim]
    SplitRows q_turned;
    SplitRows weights;  // [16, 64]
    Page keys;
    Page values;  // in the place of the keys, but for the scales
    int work_stride;
    __device__ explicit Shared(int head_dim) : work_stride(head_dim + kFloatPad) {
        const int row = head_dim + kPad;
        work = shared_memory<float>();
        scores = work + kRows * work_stride;
        centred = scores + kDepthParts * kRows * kScoreStride;
        keys.scales = centred + kRows;
        values.scales = keys.scales + kPageTokens;
        auto* halves = reinterpret_cast<uint16_t*>(values.scales + kPageTokens);
        q = {halves, halves + kRows * row, row};
        q_turned = {halves + 2 * kRows * row, halves + 3 * kRows * row, row};
        halves += 4 * kRows * row;
        weights = {halves, halves + kRows * kWeightStride, kWeightStride};
        keys.rows = values.rows = halves + 2 * kRows * kWeightStride;
    }
};
inline size_t shared_bytes_of(size_t head_dim) {
    return sizeof(float) *
               (kRows * (head_dim + kFloatPad) + kDepthParts * kRows * kScoreStride + kRows + 2 * kPageTokens) +
           sizeof(uint16_t) * ((4 * kRows + kPageTokens) * (head_dim + kPad) + 2 * kRows * kWeightStride);
}

}  // namespace kc::cuda
