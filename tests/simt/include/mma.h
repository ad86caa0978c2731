// Products on tensor cores, as far as kernels here use them: tiles of 16 x 16 halves, sums in float. Which thread holds
// which element is nobody's business on a GPU either: kernels load, multiply, store.
#pragma once

#include "cuda_fp16.h"

namespace simt {

// Of the product of two tiles that a warp holds, 8 halves a lane: adds this lane's 8 elements of it to `sums`. Lane l
// holds elements 8 * (l % 2) and on of line l / 2; lines of the left tile are rows, of the right one rows or columns.
void warp_multiply(const uint16_t* left, const uint16_t* right, bool right_by_column, float* sums, const char* file,
                   int line);
// All lanes of the warp must come, to the same line.
void warp_meet(const char* file, int line);
// Ends the process: tiles lie on multiples of 32 bytes, their rows on multiples of 16, sums by row.
[[noreturn]] void misaligned(const char* what, const void* tile, unsigned stride, const char* file, int line);

}  // namespace simt

namespace nvcuda {
namespace wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void>
class fragment {
    static_assert(M == 16 && N == 16 && K == 16, "the machine knows tiles of 16 x 16 x 16");
    static_assert(sizeof(T) == (std::is_same_v<Use, accumulator> ? 4 : 2), "factors in half precision, sums in float");

  public:
    T held[8];
};

template <class Use, class T, class Layout>
void fill_fragment(fragment<Use, 16, 16, 16, T, Layout>& tile, T value) {
    for (T& x : tile.held) x = value;
}

inline size_t place_in_tile(unsigned stride) {
    const auto lane = static_cast<size_t>(simt::lane());
    return lane / 2 * stride + lane % 2 * 8;
}

template <class Use, class Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, half, Layout>& tile, const half* from, unsigned stride, SIMT_SITE) {
    if (reinterpret_cast<uintptr_t>(from) % 32 || stride % 8)
        simt::misaligned("load_matrix_sync", from, stride, file, line);
    // One by one, not as bytes: those the compiler copies without a report.
    for (size_t i = 0; i < 8; ++i) tile.held[i].bits = from[place_in_tile(stride) + i].bits;
}

inline void store_matrix_sync(float* to, const fragment<accumulator, 16, 16, 16, float>& tile, unsigned stride,
                              layout_t layout, SIMT_SITE) {
    if (reinterpret_cast<uintptr_t>(to) % 32 || stride % 4 || layout != mem_row_major)
        simt::misaligned("store_matrix_sync", to, stride, file, line);
    simt::warp_meet(file, line);
    for (size_t i = 0; i < 8; ++i) to[place_in_tile(stride) + i] = tile.held[i];
}

template <class Layout>
void mma_sync(fragment<accumulator, 16, 16, 16, float>& sums,
              const fragment<matrix_a, 16, 16, 16, half, row_major>& left,
              const fragment<matrix_b, 16, 16, 16, half, Layout>& right,
              const fragment<accumulator, 16, 16, 16, float>& before, SIMT_SITE) {
    sums = before;
    simt::warp_multiply(&left.held[0].bits, &right.held[0].bits, std::is_same_v<Layout, col_major>, sums.held, file,
                        line);
}

}  // namespace wmma
}  // namespace nvcuda
