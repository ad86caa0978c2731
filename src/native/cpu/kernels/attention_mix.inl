// Bodies of attention_mix.h.

struct MixRowF16 {
    static constexpr int64_t kValueBytes = 2;
    static VecF load_values(const uint8_t* row, int64_t d) { return load_f16(row + 2 * d); }
};
struct MixRowQ8 {
    static constexpr int64_t kValueBytes = 1;
    static VecF load_values(const uint8_t* row, int64_t d) { return load_i8(reinterpret_cast<const int8_t*>(row) + d); }
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

// Weights of one head over some pages in integers, what one of their units stands for, and what the bias of levels
// adds.
struct PageWeights {
    WeightQuad quads[kWeightedPages][16];
    float unit;
    WeightedBias bias;
};
constexpr LevelTables<kWeightedBias> kWeightedLevels;

// The weights of the head whose weights lie `offset` behind those of the first one.
inline void weigh_pages(const CodedPage* pages, int64_t n_pages, int64_t offset, PageWeights* out, float* sum,
                        float* squares) {
    float scaled[kWeightedPages * 64];
    VecF total = splat(0.f), total_squares = splat(0.f), largest = splat(0.f);
    for (int64_t p = 0; p < n_pages; ++p) {
        const CodedPage& page = pages[p];
        for (int v = 0; v < kBlockVectors; ++v) {
            const uint64_t lanes = page.tokens >> (v * kLanes);
            const VecF w = choose(lanes, load(page.weights + offset + v * kLanes), splat(0.f));
            total = add(total, w);
            total_squares = fma(w, w, total_squares);
            // Scales of rows that were never written may be anything.
            const VecF s = choose(lanes, mul(w, load_f16(page.scales + v * kLanes)), splat(0.f));
            store(scaled + p * 64 + v * kLanes, s);
            largest = max(s, largest);
        }
    }
    *sum += reduce_add(total);
    *squares += reduce_add(total_squares);
    const float most = reduce_max(largest);
    // Below the normal numbers nothing can be told apart, nor does it count.
    const float inverse = most > 1e-30f ? kWeightSteps / most : 0.f;
    out->unit = most > 1e-30f ? most * (1.f / kWeightSteps) : 0.f;
    PackedSums packed = zero_packed();
    for (int64_t p = 0; p < n_pages; ++p) pack_weights(scaled + p * 64, splat(inverse), out->quads[p], packed);
    out->bias = weighted_bias(packed);
}

// N heads by G groups of 16 dimensions, from unit 16 * group on.
template <int32_t kCodec, int N, int G>
inline void mix_levels_tile(const CodedPage* pages, int64_t n_pages, int64_t group, int part,
                            const PageWeights* weights, int64_t head_dim, float* into, int64_t into_stride) {
    const Codes table = load_table(kWeightedLevels.of<kCodec>());
    WeightedSums sums[N][G];
    for (int h = 0; h < N; ++h) {
        for (int g = 0; g < G; ++g) sums[h][g] = zero_weighted();
    }
    for (int64_t p = 0; p < n_pages; ++p) {
        for (int quad = 0; quad < 16; quad += 8) {
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) {
                WeightedLevels levels[G];
                for (int g = 0; g < G; ++g) {
                    const Codes codes = unit_codes<kCodec>(pages[p].block, head_dim, (group + g) * 16 + quad, i, part);
                    levels[g] = prepare_levels(look_up(codes, table));
                }
                for (int h = 0; h < N; ++h) {
                    for (int g = 0; g < G; ++g) add_weighted(sums[h][g], levels[g], weights[h].quads[p][quad + i]);
                }
            }
        }
    }
    for (int h = 0; h < N; ++h) {
        for (int g = 0; g < G; ++g) {
            add_total(into + h * into_stride + (group + g) * 16 + part * (kCodeBytes / 4), sums[h][g], weights[h].bias,
                      weights[h].unit);
        }
    }
}

template <int32_t kCodec, int N>
inline void mix_levels_heads(const CodedPage* pages, int64_t n_pages, const PageWeights* weights, int64_t head_dim,
                             float* into, int64_t into_stride) {
    int64_t group = 0;
    for (; (group + kWeightedTile) * 16 <= head_dim; group += kWeightedTile) {
        for (int part = 0; part < kUnitParts; ++part) {
            mix_levels_tile<kCodec, N, kWeightedTile>(pages, n_pages, group, part, weights, head_dim, into,
                                                      into_stride);
        }
    }
    for (; kWeightedTile > 1 && group * 16 < head_dim; ++group) {
        for (int part = 0; part < kUnitParts; ++part) {
            mix_levels_tile<kCodec, N, 1>(pages, n_pages, group, part, weights, head_dim, into, into_stride);
        }
    }
}

// The heads whose weights lie `offset` behind those of the first one, and further ones.
template <int32_t kCodec>
inline void mix_levels(const CodedPage* pages, int64_t n_pages, int64_t offset, int64_t weight_stride, int64_t n_heads,
                       int64_t head_dim, float* into, int64_t into_stride, float* sums, float* squares) {
    PageWeights weights[kTileHeads];
    for (int64_t h = 0; h < n_heads; ++h) {
        // Codes come while weights are made.
        for (int64_t p = h; p < n_pages; p += n_heads) {
            const uint8_t* end = reinterpret_cast<const uint8_t*>(pages[p].scales);
            for (const uint8_t* code = pages[p].block; code < end; code += 64) prefetch(code);
        }
        weigh_pages(pages, n_pages, offset + h * weight_stride, weights + h, sums + h, squares + h);
    }
    const auto heads = n_heads == 1   ? mix_levels_heads<kCodec, 1>
                       : n_heads == 2 ? mix_levels_heads<kCodec, 2>
                       : n_heads == 3 ? mix_levels_heads<kCodec, 3>
                                      : mix_levels_heads<kCodec, kTileHeads>;
    heads(pages, n_pages, weights, head_dim, into, into_stride);
}

void attention_mix_levels(int32_t codec, const CodedPage* pages, int64_t n_pages, int64_t weight_stride,
                          int64_t n_heads, int64_t head_dim, float* into, int64_t into_stride, float* sums,
                          float* squares) {
    const auto mix = codec == KC_CODEC_Q4   ? mix_levels<KC_CODEC_Q4>
                     : codec == KC_CODEC_Q3 ? mix_levels<KC_CODEC_Q3>
                                            : mix_levels<KC_CODEC_Q2>;
    for (int64_t h = 0, n; h < n_heads; h += n) {
        n = tile_heads(n_heads - h);
        for (int64_t i = h; i < h + n; ++i) sums[i] = squares[i] = 0.f;
        for (int64_t first = 0; first < n_pages; first += kWeightedPages) {
            const int64_t n_here = n_pages - first < kWeightedPages ? n_pages - first : kWeightedPages;
            mix(pages + first, n_here, h * weight_stride, weight_stride, n, head_dim, into + h * into_stride,
                into_stride, sums + h, squares + h);
        }
    }
}

constexpr AttentionMixBodies attention_mix_bodies = {attention_mix_rows_f16, attention_mix_rows_q8,
                                                     attention_mix_levels};
