// The stems of elementwise.cu; arguments as in kcache_ops.h, all pointers in device memory.
#pragma once

#include "context.h"

namespace kc::cuda {

void rms_norm(Context& context, const float* x, const float* weight, int64_t n_tokens, int64_t dim, float eps,
              float* out);
void rope_table(Context& context, const int32_t* positions, const float* inv_freq, int64_t n_tokens, int64_t n_pairs,
                float magnitude, float* out);
void rope(Context& context, const float* table, int64_t n_tokens, int64_t n_heads, int64_t head_dim, int64_t n_pairs,
          int32_t pairing, float* x);
void swiglu(Context& context, const float* gate, const float* up, int64_t n, float* out);
void add(Context& context, const float* a, const float* b, int64_t n, float* out);
void embed(Context& context, const kc_matrix& table, const int32_t* ids, int64_t n_tokens, float* out);
void softmax(Context& context, const float* x, int64_t n_rows, int64_t n_cols, float* out);
void argmax(Context& context, const float* x, int64_t n_rows, int64_t n_cols, int32_t* out);

}  // namespace kc::cuda
