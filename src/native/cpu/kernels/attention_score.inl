// Bodies of attention_score.h.

constexpr int kBlockVectors = 64 / kLanes;

// Accumulators of N heads by V vectors of tokens; each is one chain over d, so a tile's shape does not show in the
// bits.
template <int N, int V>
inline void dot_f16_tile(const uint8_t* block, const uint8_t* next, const float* q, int64_t head_dim, float scale,
                         float* scores, int64_t score_stride) {
    VecF sums[N][V];
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) sums[h][v] = splat(0.f);
    }
    for (int64_t d = 0; d < head_dim; ++d) {
        // The query stays in registers, keys pass by: N * V sums, N numbers and one key fill the 16 of AVX2.
        VecF qd[N];
        for (int h = 0; h < N; ++h) qd[h] = splat(q[h * head_dim + d]);
        prefetch(next + d * 128);
        for (int v = 0; v < V; ++v) {
            const VecF key = load_f16(block + d * 128 + v * 2 * kLanes);
            for (int h = 0; h < N; ++h) sums[h][v] = fma(qd[h], key, sums[h][v]);
        }
    }
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) store(scores + h * score_stride + v * kLanes, mul(sums[h][v], splat(scale)));
    }
}

template <int N, int V>
inline void dot_f16_heads(const uint8_t* block, const uint8_t* next, const float* q, int64_t head_dim, float scale,
                          float* scores, int64_t score_stride) {
    constexpr int kVectors = V < kBlockVectors ? V : kBlockVectors;
    for (int v = 0; v < kBlockVectors; v += kVectors) {
        dot_f16_tile<N, kVectors>(block + v * 2 * kLanes, next + v * 2 * kLanes, q, head_dim, scale,
                                  scores + v * kLanes, score_stride);
    }
}

void attention_score_dot_f16(const uint8_t* block, const uint8_t* next, const float* q, int64_t n_heads,
                             int64_t head_dim, float scale, float* scores, int64_t score_stride) {
    while (n_heads > 0) {
        const int64_t n = n_heads > 4 ? 3 : n_heads;
        switch (n) {
            case 1:
                dot_f16_heads<1, 8>(block, next, q, head_dim, scale, scores, score_stride);
                break;
            case 2:
                dot_f16_heads<2, 4>(block, next, q, head_dim, scale, scores, score_stride);
                break;
            case 3:
                dot_f16_heads<3, 4>(block, next, q, head_dim, scale, scores, score_stride);
                break;
            default:
                dot_f16_heads<4, 2>(block, next, q, head_dim, scale, scores, score_stride);
                break;
        }
        n_heads -= n;
        q += n * head_dim;
        scores += n * score_stride;
    }
}

// Integer sums of N heads by V times 8 tokens.
template <int N, int V>
inline void dot_q8_tile(const uint8_t* block, const int16_t* q, int64_t head_dim, float* dots, int64_t dot_stride) {
    Ints sums[N][V];
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) sums[h][v] = zero_ints();
    }
    for (int64_t d = 0; d < head_dim; d += 2) {
        Pairs keys[V];
        for (int v = 0; v < V; ++v) keys[v] = load_pairs(block + d * 64 + v * 16);
        for (int h = 0; h < N; ++h) {
            const Pairs qd = splat_pair(q + h * head_dim + d);
            for (int v = 0; v < V; ++v) sums[h][v] = add_pairs(sums[h][v], keys[v], qd);
        }
    }
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) store_ints(dots + h * dot_stride + v * 8, sums[h][v]);
    }
}

template <int N, int V>
inline void dot_levels_tile(const int8_t* levels, const int8_t* q, int64_t head_dim, float* dots, int64_t dot_stride) {
    Ints sums[N][V];
    int32_t bias[N];
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) sums[h][v] = zero_ints();
        bias[h] = 0;
        for (int64_t d = 0; kQuadBias != 0 && d < head_dim; ++d) bias[h] += kQuadBias * q[h * head_dim + d];
    }
    for (int64_t d = 0; d < head_dim; d += 4) {
        for (int h = 0; h < N; ++h) {
            const Quads qd = splat_quad(q + h * head_dim + d);
            for (int v = 0; v < V; ++v) {
                sums[h][v] = add_quads(sums[h][v], load_bytes(levels + d * 64 + v * 32), qd);
            }
        }
    }
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) store_ints(dots + h * dot_stride + v * 8, subtract(sums[h][v], bias[h]));
    }
}

template <int N>
inline void dot_q8_heads(const uint8_t* block, const int16_t* q, int64_t head_dim, float* dots, int64_t dot_stride) {
    for (int t = 0; t < 64; t += 32) dot_q8_tile<N, 4>(block + t * 2, q, head_dim, dots + t, dot_stride);
}

void attention_score_dot_q8(const uint8_t* block, const int16_t* q, int64_t n_heads, int64_t head_dim, float* dots,
                            int64_t dot_stride) {
    for (; n_heads >= 2; n_heads -= 2, q += 2 * head_dim, dots += 2 * dot_stride) {
        dot_q8_heads<2>(block, q, head_dim, dots, dot_stride);
    }
    if (n_heads == 1) dot_q8_heads<1>(block, q, head_dim, dots, dot_stride);
}

template <int N>
inline void dot_levels_heads(const int8_t* levels, const int8_t* q, int64_t head_dim, float* dots, int64_t dot_stride) {
    for (int t = 0; t < 64; t += 32) dot_levels_tile<N, 4>(levels + t * 4, q, head_dim, dots + t, dot_stride);
}

void attention_score_dot_levels(const int8_t* levels, const int8_t* q, int64_t n_heads, int64_t head_dim, float* dots,
                                int64_t dot_stride) {
    while (n_heads > 0) {
        const int64_t n = n_heads == 4 ? 2 : n_heads > 3 ? 3 : n_heads;
        if (n == 3) dot_levels_heads<3>(levels, q, head_dim, dots, dot_stride);
        if (n == 2) dot_levels_heads<2>(levels, q, head_dim, dots, dot_stride);
        if (n == 1) dot_levels_heads<1>(levels, q, head_dim, dots, dot_stride);
        n_heads -= n;
        q += n * head_dim;
        dots += n * dot_stride;
    }
}

void attention_score_scale(float* scores, const uint16_t* row_scales, float factor, float offset) {
    for (int t = 0; t < 64; t += kLanes) {
        const VecF s = mul(load(scores + t), load_f16(row_scales + t));
        store(scores + t, fma(s, splat(factor), splat(offset)));
    }
}

float attention_score_dot_row(const uint16_t* row, const float* q, int64_t head_dim, float scale) {
    VecF sums = splat(0.f);
    for (int64_t d = 0; d < head_dim; d += kLanes) sums = fma(load(q + d), load_f16(row + d), sums);
    return reduce_add(sums) * scale;
}

int32_t attention_score_scan(float* scores, float* max_score) {
    VecF largest = splat(*max_score);
    // Becomes NaN where a score is NaN or infinite.
    VecF probe = splat(0.f);
    for (int v = 0; v < kBlockVectors; ++v) {
        const VecF s = load(scores + v * kLanes);
        largest = max(s, largest);
        probe = fma(s, splat(0.f), probe);
    }
    if (reduce_add(probe) == 0.f) {
        *max_score = reduce_max(largest);
        return 0;
    }
    int32_t n_nonfinite = 0;
    for (int t = 0; t < 64; ++t) {
        if (!(scores[t] - scores[t] == 0.f)) {
            scores[t] = -__builtin_inff();
            ++n_nonfinite;
        } else if (scores[t] > *max_score) {
            *max_score = scores[t];
        }
    }
    return n_nonfinite;
}

void attention_score_exponentials(float* scores, int64_t n_blocks, float max_score, float* sums) {
    const VecF m = splat(max_score);
    for (int64_t b = 0; b < n_blocks; ++b, scores += 64) {
        VecF total = splat(0.f);
        for (int v = 0; v < kBlockVectors; ++v) {
            const VecF e = exp(sub(load(scores + v * kLanes), m));
            store(scores + v * kLanes, e);
            total = add(total, e);
        }
        sums[b] = reduce_add(total);
    }
}

float attention_score_exponential(float x) {
    float lanes[kLanes];
    store(lanes, exp(splat(x)));
    return lanes[0];
}

void attention_score_sums(const float* weights, float* sum, float* squares) {
    VecF total = splat(0.f), total_squares = splat(0.f);
    for (int v = 0; v < kBlockVectors; ++v) {
        const VecF w = load(weights + v * kLanes);
        total = add(total, w);
        total_squares = fma(w, w, total_squares);
    }
    *sum = reduce_add(total);
    *squares = reduce_add(total_squares);
}

constexpr AttentionScoreBodies attention_score_bodies = {
    attention_score_dot_f16,      attention_score_dot_q8,      attention_score_dot_levels,
    attention_score_scale,        attention_score_dot_row,     attention_score_scan,
    attention_score_exponentials, attention_score_exponential, attention_score_sums};
