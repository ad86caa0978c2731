// Bodies of select_topn.h.

void select_topn_group_sums(const float* weights, int64_t weight_stride, const float* factors, int64_t n_heads,
                            int64_t n_pages, float* sums, float* maxima) {
    for (int64_t page = 0; page < n_pages; ++page, weights += 64, sums += 64) {
        VecF sum[kBlockVectors];
        for (int v = 0; v < kBlockVectors; ++v) sum[v] = splat(0.f);
        for (int64_t h = 0; h < n_heads; ++h) {
            for (int v = 0; v < kBlockVectors; ++v) {
                sum[v] = fma(load(weights + h * weight_stride + v * kLanes), splat(factors[h]), sum[v]);
            }
        }
        VecF largest = splat(-1.f);
        for (int v = 0; v < kBlockVectors; ++v) {
            const VecF ranked = max(sum[v], splat(-1.f));
            store(sums + v * kLanes, ranked);
            largest = max(ranked, largest);
        }
        store_maxima4(maxima + page * 4, largest);
    }
}

void select_topn_maxima(const float* sums, uint64_t candidates, float* maxima) {
    VecF largest = splat(-2.f);
    for (int v = 0; v < kBlockVectors; ++v) {
        largest = max(choose(candidates >> (v * kLanes), load(sums + v * kLanes), splat(-2.f)), largest);
    }
    store_maxima4(maxima, largest);
}

int64_t select_topn_count_at_least(const float* values, int64_t n, float bound) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += kLanes) count += __builtin_popcount(at_least(load(values + i), splat(bound)));
    return count;
}

int64_t select_topn_collect(const float* sums, int64_t n_pages, float bound, int32_t first, int32_t* tokens,
                            float* weights) {
    int64_t n_found = 0;
    for (int64_t page = 0; page < n_pages; ++page) {
        uint64_t reach = 0;
        for (int v = 0; v < kBlockVectors; ++v) {
            reach |= uint64_t{at_least(load(sums + page * 64 + v * kLanes), splat(bound))} << (v * kLanes);
        }
        const int n = __builtin_popcountll(reach);
        // Four at a time whether there are as many or not, since how many there are follows no pattern. What is written
        // behind them is this page's or a later one's.
        for (int i = 0; i < n || i == 0; i += 4) {
            for (int j = 0; j < 4; ++j) {
                const int64_t token = page * 64 + __builtin_ctzll(reach | uint64_t{1} << 63);
                tokens[n_found + i + j] = first + static_cast<int32_t>(token);
                weights[n_found + i + j] = sums[token];
                reach &= reach - 1;
            }
        }
        n_found += n;
    }
    return n_found;
}

void select_topn_outside(const float* weights, const uint64_t* kept, int64_t n_pages, float* sum, float* squares) {
    VecF sums[kBlockVectors], sums_of_squares[kBlockVectors];
    for (int v = 0; v < kBlockVectors; ++v) sums[v] = sums_of_squares[v] = splat(0.f);
    for (int64_t page = 0; page < n_pages; ++page, weights += 64) {
        for (int v = 0; v < kBlockVectors; ++v) {
            const VecF w = choose(~kept[page] >> (v * kLanes), load(weights + v * kLanes), splat(0.f));
            sums[v] = add(sums[v], w);
            sums_of_squares[v] = fma(w, w, sums_of_squares[v]);
        }
    }
    for (int v = 1; v < kBlockVectors; ++v) {
        sums[0] = add(sums[0], sums[v]);
        sums_of_squares[0] = add(sums_of_squares[0], sums_of_squares[v]);
    }
    *sum = reduce_add(sums[0]);
    *squares = reduce_add(sums_of_squares[0]);
}

constexpr SelectTopnBodies select_topn_bodies = {select_topn_group_sums, select_topn_maxima, select_topn_count_at_least,
                                                 select_topn_collect, select_topn_outside};
