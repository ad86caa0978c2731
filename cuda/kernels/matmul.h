// The stem of matmul.cu.
#pragma once

#include "context.h"

namespace kc::cuda {

// Arguments have been checked; all pointers inside in device memory.
void matmul(Context& context, const kc_matmul_params& params);
void matrix_expand(Context& context, const kc_matrix& weight, int64_t first_row, int64_t n_rows, float* out);
// Grows the context's scratch, so that no later call up to [n_tokens, n_cols] allocates.
void matmul_reserve(Context& context, int64_t n_tokens, int64_t n_cols);

}  // namespace kc::cuda
