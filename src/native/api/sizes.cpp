// Sizes that are the same on every backend.
#include "api/check.h"
#include "api/guard.h"
#include "cpu/isa/isa.h"
#include "cpu/kernels/matmul.h"
#if __has_include("cpu/kernels/stems.h")
#include "cpu/kernels/stems.h"
#define KC_HAS_ATTENTION 1
#endif

using namespace kc;

uint64_t kc_matrix_bytes(int32_t type, int64_t n_rows, int64_t n_cols) {
    const WeightBodies* weights = find_weight(find_kernels(Isa::scalar)->matmul, type);
    if (!weights || n_rows < 0 || n_cols < 0 || n_cols % weights->block != 0) return 0;
    const int64_t row_bytes = n_cols / weights->block * weights->block_bytes;
    if (row_bytes > 0 && n_rows > INT64_MAX / row_bytes) return 0;
    return static_cast<uint64_t>(n_rows * row_bytes);
}

uint64_t kc_block_bytes(int32_t codec, int32_t head_dim) {
#if KC_HAS_ATTENTION
    return guard_size([&] { return block_bytes(codec, head_dim); });
#else
    (void)codec, (void)head_dim;
    return 0;
#endif
}

uint64_t kc_hot_state_bytes(int32_t n_slots) {
#if KC_HAS_ATTENTION
    return guard_size([&] {
        check_range(n_slots, 1, 1 << 26, "n_slots");
        return hot_state_bytes(n_slots);
    });
#else
    (void)n_slots;
    return 0;
#endif
}
