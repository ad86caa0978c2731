#include "cpu/kernels/elementwise.h"

#include <algorithm>
#include <cmath>

#include "cpu/context.h"

namespace kc {
namespace {

// A piece of work must be worth handing to another thread: about two microseconds.
constexpr int64_t kGrainElements = 4096;

int64_t rows_per_piece(int64_t row_elements) {
    return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, row_elements));
}

}  // namespace

void rms_norm(CpuContext& context, const float* x, const float* weight, int64_t n_tokens, int64_t dim, float eps,
              float* out) {
    const auto body = context.kernels->elementwise.rms_norm;
    context.pool.run(n_tokens, rows_per_piece(dim), [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) body(x + t * dim, weight, dim, eps, out + t * dim);
    });
}

void rope_table(CpuContext& context, const int32_t* positions, const float* inv_freq, int64_t n_tokens, int64_t n_pairs,
                float magnitude, float* out) {
    // A sine in double takes about 20 ns.
    context.pool.run(n_tokens, rows_per_piece(32 * n_pairs), [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) {
            float* row = out + t * n_pairs * 2;
            for (int64_t p = 0; p < n_pairs; ++p) {
                const double angle = static_cast<double>(positions[t]) * static_cast<double>(inv_freq[p]);
                row[2 * p] = static_cast<float>(magnitude * std::cos(angle));
                row[2 * p + 1] = static_cast<float>(magnitude * std::sin(angle));
            }
        }
    });
}

void rope(CpuContext& context, const float* table, int64_t n_tokens, int64_t n_heads, int64_t head_dim, int64_t n_pairs,
          int32_t pairing, float* x) {
    const auto body = context.kernels->elementwise.rope;
    context.pool.run(n_tokens, rows_per_piece(4 * n_heads * n_pairs), [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) {
            body(table + t * n_pairs * 2, n_heads, head_dim, n_pairs, pairing, x + t * n_heads * head_dim);
        }
    });
}

void swiglu(CpuContext& context, const float* gate, const float* up, int64_t n, float* out) {
    const auto body = context.kernels->elementwise.swiglu;
    // A range begins at a multiple of the grain, so an element's lane does not depend on the threads.
    context.pool.run(n, kGrainElements, [&](int64_t begin, int64_t end, int) {
        body(gate + begin, up + begin, end - begin, out + begin);
    });
}

void add(CpuContext& context, const float* a, const float* b, int64_t n, float* out) {
    const auto body = context.kernels->elementwise.add;
    context.pool.run(n, 4 * kGrainElements,
                     [&](int64_t begin, int64_t end, int) { body(a + begin, b + begin, end - begin, out + begin); });
}

void softmax(CpuContext& context, const float* x, int64_t n_rows, int64_t n_cols, float* out) {
    const auto body = context.kernels->elementwise.softmax;
    context.pool.run(n_rows, rows_per_piece(n_cols), [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) body(x + r * n_cols, n_cols, out + r * n_cols);
    });
}

void argmax(CpuContext& context, const float* x, int64_t n_rows, int64_t n_cols, int32_t* out) {
    const auto body = context.kernels->elementwise.argmax;
    context.pool.run(n_rows, rows_per_piece(n_cols), [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) out[r] = body(x + r * n_cols, n_cols);
    });
}

}  // namespace kc
