// Bodies of attention_mix.h.

struct MixRowF16 {
    static constexpr int64_t kValueBytes = 2;
    static VecF load_values(const uint8_t* row, int64_t d) { return load_f16(row + 2 * d); }
};
struct MixRowQ8 {
    static constexpr int64_t kValueBytes = 1;
    static VecF load_values(const uint8_t* row, int64_t d) { return load_i8(reinterpret_cast<const int8_t*>(row) + d); }
};
// Rows of 16 dimensions side by side: those of a token lie 1024 bytes apart.
struct MixRowLevels {
    static constexpr int64_t kValueBytes = 0;  // in the cache already
    static VecF load_values(const uint8_t* row, int64_t d) {
        return load_i8(reinterpret_cast<const int8_t*>(row) + d / 16 * 1024 + d % 16);
    }
};

// One chain over the rows for each of N heads by V vectors of d.
template <class Row, int N, int V>
inline void mix_tile(const uint8_t* const* rows, int64_t n_rows, const float* weights, int64_t weight_stride, int64_t d,
                     int64_t ahead_bytes, float* into, int64_t into_stride) {
    VecF sums[N][V];
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) sums[h][v] = splat(0.f);
    }
    for (int64_t j = 0; j < n_rows; ++j) {
        // Weights stay in registers, values pass by: N * V sums, N weights and one value fill the 16 of AVX2.
        VecF w[N];
        for (int h = 0; h < N; ++h) w[h] = splat(weights[h * weight_stride + j]);
        for (int64_t at = 0; at < V * kLanes * Row::kValueBytes; at += 64) {
            prefetch(rows[j] + ahead_bytes + d * Row::kValueBytes + at);
        }
        for (int v = 0; v < V; ++v) {
            const VecF value = Row::load_values(rows[j], d + v * kLanes);
            for (int h = 0; h < N; ++h) sums[h][v] = fma(w[h], value, sums[h][v]);
        }
    }
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) {
            float* p = into + h * into_stride + d + v * kLanes;
            store(p, add(load(p), sums[h][v]));
        }
    }
}

template <class Row, int N, int V>
inline void mix_heads(const uint8_t* const* rows, int64_t n_rows, const float* weights, int64_t weight_stride,
                      int64_t head_dim, int64_t ahead_bytes, float* into, int64_t into_stride) {
    int64_t d = 0;
    for (; d + V * kLanes <= head_dim; d += V * kLanes) {
        mix_tile<Row, N, V>(rows, n_rows, weights, weight_stride, d, ahead_bytes, into, into_stride);
    }
    for (; V > 2 && d + 2 * kLanes <= head_dim; d += 2 * kLanes) {
        mix_tile<Row, N, 2>(rows, n_rows, weights, weight_stride, d, ahead_bytes, into, into_stride);
    }
    for (; d < head_dim; d += kLanes) {
        mix_tile<Row, N, 1>(rows, n_rows, weights, weight_stride, d, ahead_bytes, into, into_stride);
    }
}

template <class Row>
inline void mix_rows(const uint8_t* const* rows, int64_t n_rows, const float* weights, int64_t weight_stride,
                     int64_t n_heads, int64_t head_dim, int64_t ahead_bytes, float* into, int64_t into_stride) {
    while (n_heads > 0) {
        const int64_t n = n_heads > 4 ? 3 : n_heads;
        switch (n) {
            case 1:
                mix_heads<Row, 1, 8>(rows, n_rows, weights, weight_stride, head_dim, ahead_bytes, into, into_stride);
                break;
            case 2:
                mix_heads<Row, 2, 4>(rows, n_rows, weights, weight_stride, head_dim, ahead_bytes, into, into_stride);
                break;
            case 3:
                mix_heads<Row, 3, 4>(rows, n_rows, weights, weight_stride, head_dim, ahead_bytes, into, into_stride);
                break;
            default:
                mix_heads<Row, 4, 2>(rows, n_rows, weights, weight_stride, head_dim, ahead_bytes, into, into_stride);
                break;
        }
        n_heads -= n;
        weights += n * weight_stride;
        into += n * into_stride;
    }
}

void attention_mix_rows_f16(const uint8_t* const* rows, int64_t n_rows, const float* weights, int64_t weight_stride,
                            int64_t n_heads, int64_t head_dim, int64_t ahead_bytes, float* into, int64_t into_stride) {
    mix_rows<MixRowF16>(rows, n_rows, weights, weight_stride, n_heads, head_dim, ahead_bytes, into, into_stride);
}

void attention_mix_rows_q8(const uint8_t* const* rows, int64_t n_rows, const float* weights, int64_t weight_stride,
                           int64_t n_heads, int64_t head_dim, int64_t ahead_bytes, float* into, int64_t into_stride) {
    mix_rows<MixRowQ8>(rows, n_rows, weights, weight_stride, n_heads, head_dim, ahead_bytes, into, into_stride);
}

void attention_mix_levels(const int8_t* levels, const float* weights, int64_t weight_stride, int64_t n_heads,
                          int64_t head_dim, float* into, int64_t into_stride) {
    const uint8_t* rows[64];
    for (int t = 0; t < 64; ++t) rows[t] = reinterpret_cast<const uint8_t*>(levels) + t * 16;
    mix_rows<MixRowLevels>(rows, 64, weights, weight_stride, n_heads, head_dim, 0, into, into_stride);
}

constexpr AttentionMixBodies attention_mix_bodies = {attention_mix_rows_f16, attention_mix_rows_q8,
                                                     attention_mix_levels};
