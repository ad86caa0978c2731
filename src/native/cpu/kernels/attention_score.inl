// Bodies of attention_score.h.

// Integer dot products of a vector of keys become scores; t is the first of the keys in the block.
inline void score_dots(VecF dots, const uint16_t* row_scales, const CodedQuery& query, int64_t t, float* scores) {
    store(scores + t, fma(mul(dots, load_f16(row_scales + t)), splat(query.factor), splat(query.offset)));
}

void attention_score_scan(float* scores, float* max_score, int32_t* n_nonfinite) {
    VecF largest = splat(*max_score), probe = splat(0.f);
    for (int t = 0; t < 64; t += kLanes) {
        const VecF score = load(scores + t);
        largest = max(score, largest);
        probe = fma(score, splat(0.f), probe);
    }
    // Zero unless one is NaN or infinite.
    if (all_zero(probe)) {
        *max_score = reduce_max(largest);
        return;
    }
    for (int t = 0; t < 64; ++t) {
        if (!(scores[t] - scores[t] == 0.f)) {
            scores[t] = kUnseen;
            ++*n_nonfinite;
        } else if (scores[t] > *max_score) {
            *max_score = scores[t];
        }
    }
}

// Dimensions of f16 keys that are fetched ahead, 128 bytes each.
constexpr int64_t kF16Ahead = 32;

// Accumulators of N heads by V vectors of tokens; each is one chain over d, so a tile's shape does not show in the
// bits.
template <int N, int V>
inline void dot_f16_tile(const uint8_t* block, const uint8_t* next, const float* q, int64_t head_dim, float scale,
                         float* scores, int64_t score_stride) {
    const int64_t n_ahead = kF16Ahead < head_dim ? kF16Ahead : head_dim;
    VecF sums[N][V];
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) sums[h][v] = splat(0.f);
    }
    for (int64_t d = 0; d < head_dim; ++d) {
        // The query stays in registers, keys pass by: N * V sums, N numbers and one key fill the 16 of AVX2.
        VecF qd[N];
        for (int h = 0; h < N; ++h) qd[h] = splat(q[h * head_dim + d]);
        const uint8_t* ahead = d < head_dim - n_ahead ? block + n_ahead * 128 : next - (head_dim - n_ahead) * 128;
        for (int at = 0; at < V * kLanes * 2; at += 64) prefetch_once(ahead + d * 128 + at);
        for (int v = 0; v < V; ++v) {
            const VecF key = load_f16(block + d * 128 + v * 2 * kLanes);
            for (int h = 0; h < N; ++h) sums[h][v] = fma(qd[h], key, sums[h][v]);
        }
    }
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) {
            store(scores + h * score_stride + v * kLanes, mul(sums[h][v], splat(scale)));
        }
    }
}

template <int N, int V>
inline void score_f16_heads(const uint8_t* block, const uint8_t* next, const float* q, int64_t head_dim, float scale,
                            float* scores, int64_t score_stride) {
    constexpr int kVectors = V < kBlockVectors ? V : kBlockVectors;
    for (int v = 0; v < kBlockVectors; v += kVectors) {
        dot_f16_tile<N, kVectors>(block + v * 2 * kLanes, next + v * 2 * kLanes, q, head_dim, scale,
                                  scores + v * kLanes, score_stride);
    }
}

void attention_score_keys_f16(const uint8_t* block, const uint8_t* next, const float* q, int64_t n_heads,
                              int64_t head_dim, float scale, float* scores, int64_t score_stride) {
    while (n_heads > 0) {
        const int64_t n = n_heads > 4 ? 3 : n_heads;
        const auto heads = n == 1   ? score_f16_heads<1, 8>
                           : n == 2 ? score_f16_heads<2, 4>
                           : n == 3 ? score_f16_heads<3, 4>
                                    : score_f16_heads<4, 2>;
        heads(block, next, q, head_dim, scale, scores, score_stride);
        n_heads -= n;
        q += n * head_dim;
        scores += n * score_stride;
    }
}

// Integer sums of N heads by V times kIntLanes tokens.
template <int N, int V>
inline void dot_q8_tile(const uint8_t* block, const int16_t* q, int64_t head_dim, float* dots, int64_t dot_stride) {
    Ints sums[N][V];
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) sums[h][v] = zero_ints();
    }
    for (int64_t d = 0; d < head_dim; d += 2) {
        Pairs keys[V];
        for (int v = 0; v < V; ++v) keys[v] = load_pairs(block + d * 64 + v * 2 * kIntLanes);
        for (int h = 0; h < N; ++h) {
            const Pairs qd = splat_pair(q + h * head_dim + d);
            for (int v = 0; v < V; ++v) sums[h][v] = add_pairs(sums[h][v], keys[v], qd);
        }
    }
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) store_ints(dots + h * dot_stride + v * kIntLanes, sums[h][v]);
    }
}

constexpr LevelTables<kQuadBias> kQuadLevels;

// Scores of N heads by V units of 16 tokens, from unit `first` of each quad of dimensions on.
template <int32_t kCodec, int N, int V>
inline void score_levels_tile(const uint8_t* block, const uint16_t* row_scales, int first, int part, const int8_t* q,
                              const CodedQuery* queries, int64_t head_dim, float* scores, int64_t score_stride) {
    const Codes table = load_table(kQuadLevels.of<kCodec>());
    decltype(zero_quads()) sums[N][V];
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) sums[h][v] = zero_quads();
    }
    for (int64_t unit = 0; unit < head_dim; unit += 8) {
        for (int quad = 0; quad < 2; ++quad) {
            Codes levels[V];
            for (int v = 0; v < V; ++v) {
                levels[v] = look_up(unit_codes<kCodec>(block, head_dim, unit, quad * 4 + first + v, part), table);
            }
            for (int h = 0; h < N; ++h) {
                const Quads qd = splat_quad(q + h * head_dim + unit + quad * 4);
                for (int v = 0; v < V; ++v) sums[h][v] = add_quads(sums[h][v], levels[v], qd);
            }
        }
    }
    for (int h = 0; h < N; ++h) {
        for (int v = 0; v < V; ++v) {
            VecF dots[kQuadVectors];
            convert_quads(sums[h][v], kQuadBias * queries[h].sum, dots);
            for (int i = 0; i < kQuadVectors; ++i) {
                const int64_t t = (first + v) * 16 + part * (kCodeBytes / 4) + i * kLanes;
                score_dots(dots[i], row_scales, queries[h], t, scores + h * score_stride);
            }
        }
    }
}

template <int N>
inline void dot_q8_heads(const uint8_t* block, const int16_t* q, int64_t head_dim, float* dots, int64_t dot_stride) {
    for (int t = 0; t < 64; t += 4 * kIntLanes) dot_q8_tile<N, 4>(block + t * 2, q, head_dim, dots + t, dot_stride);
}

void attention_score_keys_q8(const uint8_t* block, const uint16_t* row_scales, const int16_t* q,
                             const CodedQuery* queries, int64_t n_heads, int64_t head_dim, float* scores,
                             int64_t score_stride) {
    for (int64_t h = 0, n; h < n_heads; h += n) {
        n = n_heads - h < kPairHeads ? n_heads - h : kPairHeads;
        const auto dots = n == 1   ? dot_q8_heads<1>
                          : n == 2 ? dot_q8_heads<2>
                          : n == 3 ? dot_q8_heads < kPairHeads < 3 ? kPairHeads : 3 >
                                   : dot_q8_heads<kPairHeads>;
        dots(block, q + h * head_dim, head_dim, scores + h * score_stride, score_stride);
    }
    for (int64_t h = 0; h < n_heads; ++h) {
        float* row = scores + h * score_stride;
        for (int t = 0; t < 64; t += kLanes) score_dots(load(row + t), row_scales, queries[h], t, row);
    }
}

template <int32_t kCodec, int N>
inline void score_levels_heads(const uint8_t* block, const uint16_t* row_scales, const int8_t* q,
                               const CodedQuery* queries, int64_t head_dim, float* scores, int64_t score_stride) {
    for (int first = 0; first < 4; first += kUnitTile) {
        for (int part = 0; part < kUnitParts; ++part) {
            score_levels_tile<kCodec, N, kUnitTile>(block, row_scales, first, part, q, queries, head_dim, scores,
                                                    score_stride);
        }
    }
}

template <int32_t kCodec>
inline void score_levels(const uint8_t* block, const uint16_t* row_scales, const int8_t* q, const CodedQuery* queries,
                         int64_t n_heads, int64_t head_dim, float* scores, int64_t score_stride) {
    while (n_heads > 0) {
        const int64_t n = tile_heads(n_heads);
        const auto heads = n == 1   ? score_levels_heads<kCodec, 1>
                           : n == 2 ? score_levels_heads<kCodec, 2>
                           : n == 3 ? score_levels_heads<kCodec, 3>
                                    : score_levels_heads<kCodec, kTileHeads>;
        heads(block, row_scales, q, queries, head_dim, scores, score_stride);
        n_heads -= n;
        q += n * head_dim;
        queries += n;
        scores += n * score_stride;
    }
}

void attention_score_keys_levels(int32_t codec, const uint8_t* block, const uint16_t* row_scales, const int8_t* q,
                                 const CodedQuery* queries, int64_t n_heads, int64_t head_dim, float* scores,
                                 int64_t score_stride) {
    const auto score = codec == KC_CODEC_Q4   ? score_levels<KC_CODEC_Q4>
                       : codec == KC_CODEC_Q3 ? score_levels<KC_CODEC_Q3>
                                              : score_levels<KC_CODEC_Q2>;
    score(block, row_scales, q, queries, n_heads, head_dim, scores, score_stride);
}

void attention_score_scale(float* scores, const uint16_t* row_scales, float offset) {
    for (int t = 0; t < 64; t += kLanes) {
        store(scores + t, fma(load(scores + t), load_f16(row_scales + t), splat(offset)));
    }
}

float attention_score_dot_row(const uint16_t* row, const float* q, int64_t head_dim, float scale) {
    VecF sums = splat(0.f);
    for (int64_t d = 0; d < head_dim; d += kLanes) sums = fma(load(q + d), load_f16(row + d), sums);
    return reduce_add(sums) * scale;
}

// The exponentials of 64 scores, in place; returns their sum.
inline float exponentials_of_block(float* scores, VecF reference) {
    VecF total = splat(0.f);
    for (int v = 0; v < kBlockVectors; ++v) {
        const VecF e = exp(sub(load(scores + v * kLanes), reference));
        store(scores + v * kLanes, e);
        total = add(total, e);
    }
    return reduce_add(total);
}

float attention_score_exponentials(float* scores, int64_t n_blocks, float reference) {
    float sum = 0.f;
    for (int64_t b = 0; b < n_blocks; ++b) sum += exponentials_of_block(scores + b * 64, splat(reference));
    return sum;
}

void attention_score_weigh(float* scores, float reference, SpanScore* span) {
    attention_score_scan(scores, &span->max, &span->n_nonfinite);
    span->mass += exponentials_of_block(scores, splat(reference));
}

float attention_score_exponential(float x) {
    float lanes[kLanes];
    store(lanes, exp(splat(x)));
    return lanes[0];
}

void attention_score_sums(const float* weights, uint64_t tokens, float* sum, float* squares) {
    VecF total = splat(0.f), total_squares = splat(0.f);
    for (int v = 0; v < kBlockVectors; ++v) {
        const VecF w = choose(tokens >> (v * kLanes), load(weights + v * kLanes), splat(0.f));
        total = add(total, w);
        total_squares = fma(w, w, total_squares);
    }
    *sum = reduce_add(total);
    *squares = reduce_add(total_squares);
}

constexpr AttentionScoreBodies attention_score_bodies = {
    attention_score_keys_f16,    attention_score_keys_q8, attention_score_keys_levels, attention_score_dot_row,
    attention_score_scale,       attention_score_scan,    attention_score_weigh,       attention_score_exponentials,
    attention_score_exponential, attention_score_sums};
