// Bodies of attention_full.h: matrix products in tiles of registers, each element one chain.

// Rows and vectors of a tile: enough chains to hide the latency of a multiply-add, no more than there are registers.
constexpr int kFullRows = 6;
constexpr int kFullVectors = kLanes == 16 ? 4 : 2;

// out[r, v] (+)= sum over i of a[r * a_stride + i] * b[i * b_stride + v]
template <int R, int V, bool kAccumulate>
inline void full_tile(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t n, float scale,
                      float* out, int64_t out_stride) {
    VecF sums[R][V];
    for (int r = 0; r < R; ++r) {
        for (int v = 0; v < V; ++v) sums[r][v] = splat(0.f);
    }
    for (int64_t i = 0; i < n; ++i) {
        VecF bi[V];
        for (int v = 0; v < V; ++v) bi[v] = load(b + i * b_stride + v * kLanes);
        for (int r = 0; r < R; ++r) {
            const VecF ai = splat(a[r * a_stride + i]);
            for (int v = 0; v < V; ++v) sums[r][v] = fma(ai, bi[v], sums[r][v]);
        }
    }
    for (int r = 0; r < R; ++r) {
        for (int v = 0; v < V; ++v) {
            float* p = out + r * out_stride + v * kLanes;
            store(p, kAccumulate ? add(load(p), sums[r][v]) : mul(sums[r][v], splat(scale)));
        }
    }
}

template <int R, bool kAccumulate>
inline void full_rows(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t n, int64_t n_cols,
                      float scale, float* out, int64_t out_stride) {
    int64_t c = 0;
    for (; c + kFullVectors * kLanes <= n_cols; c += kFullVectors * kLanes) {
        full_tile<R, kFullVectors, kAccumulate>(a, a_stride, b + c, b_stride, n, scale, out + c, out_stride);
    }
    for (; c < n_cols; c += kLanes) {
        full_tile<R, 1, kAccumulate>(a, a_stride, b + c, b_stride, n, scale, out + c, out_stride);
    }
}

template <bool kAccumulate>
inline void full_product(const float* a, int64_t a_stride, int64_t n_rows, const float* b, int64_t b_stride, int64_t n,
                         int64_t n_cols, float scale, float* out, int64_t out_stride) {
    int64_t r = 0;
    for (; r + kFullRows <= n_rows; r += kFullRows) {
        full_rows<kFullRows, kAccumulate>(a + r * a_stride, a_stride, b, b_stride, n, n_cols, scale,
                                          out + r * out_stride, out_stride);
    }
    a += r * a_stride;
    out += r * out_stride;
    switch (n_rows - r) {
        case 1:
            return full_rows<1, kAccumulate>(a, a_stride, b, b_stride, n, n_cols, scale, out, out_stride);
        case 2:
            return full_rows<2, kAccumulate>(a, a_stride, b, b_stride, n, n_cols, scale, out, out_stride);
        case 3:
            return full_rows<3, kAccumulate>(a, a_stride, b, b_stride, n, n_cols, scale, out, out_stride);
        case 4:
            return full_rows<4, kAccumulate>(a, a_stride, b, b_stride, n, n_cols, scale, out, out_stride);
        case 5:
            return full_rows<5, kAccumulate>(a, a_stride, b, b_stride, n, n_cols, scale, out, out_stride);
        default:
            return;
    }
}

void attention_full_scores(const float* q, int64_t n_rows, const float* keys, int64_t head_dim, float scale,
                           float* scores, int64_t score_stride) {
    full_product<false>(q, head_dim, n_rows, keys, 64, head_dim, 64, scale, scores, score_stride);
}

void attention_full_mix(const float* weights, int64_t weight_stride, int64_t n_rows, const float* values,
                        int64_t head_dim, float* into) {
    full_product<true>(weights, weight_stride, n_rows, values, head_dim, 64, head_dim, 1.f, into, head_dim);
}

constexpr AttentionFullBodies attention_full_bodies = {attention_full_scores, attention_full_mix};
