// Products on tensor cores: tiles of 16 x 16 halves, sums in float. A float travels as two halves, high + low, which
// keep 22 of its bits; so the left factor loses nothing that a sum in float would show.
#pragma once

#include <mma.h>

#include "device/half.h"

namespace kc::cuda {

constexpr int kTile = 16;

// A matrix of floats as two of halves. Rows start on multiples of 16 bytes, tiles on multiples of 32.
struct SplitRows {
    uint16_t* high;
    uint16_t* low;
    int stride;
    __device__ __forceinline__ void set(int row, int column, float x) const {
        const uint16_t bits = to_half(x);
        high[row * stride + column] = bits;
        low[row * stride + column] = to_half(x - from_half(bits));
    }
};

// How the right factor lies in memory: rows of the product's columns (keys), or rows along its sums (values).
using ByColumn = nvcuda::wmma::col_major;
using ByRow = nvcuda::wmma::row_major;

// out[16, 16] = left[16, begin to end) . right, by one warp. `right` is the tile at the top left of the columns wanted.
template <class Lies>
__device__ __forceinline__ void tensor_product(const SplitRows& left, int begin, int end, const uint16_t* right,
                                               int right_stride, float* out, int out_stride) {
    namespace wmma = nvcuda::wmma;
    wmma::fragment<wmma::matrix_a, kTile, kTile, kTile, half, wmma::row_major> high, low;
    wmma::fragment<wmma::matrix_b, kTile, kTile, kTile, half, Lies> tile;
    wmma::fragment<wmma::accumulator, kTile, kTile, kTile, float> sums;
    const int step = std::is_same<Lies, ByColumn>::value ? 1 : right_stride;
    wmma::fill_fragment(sums, 0.f);
    for (int k = begin; k < end; k += kTile) {
        wmma::load_matrix_sync(low, reinterpret_cast<const half*>(left.low + k), static_cast<unsigned>(left.stride));
        wmma::load_matrix_sync(high, reinterpret_cast<const half*>(left.high + k), static_cast<unsigned>(left.stride));
        wmma::load_matrix_sync(tile, reinterpret_cast<const half*>(right + k * step),
                               static_cast<unsigned>(right_stride));
        wmma::mma_sync(sums, low, tile, sums);
        wmma::mma_sync(sums, high, tile, sums);
    }
    wmma::store_matrix_sync(out, sums, static_cast<unsigned>(out_stride), wmma::mem_row_major);
}

}  // namespace kc::cuda
