// Bodies of select_topn.h.

void select_topn_group_sums(const float* weights, int64_t weight_stride, const float* factors, int64_t n_heads,
                            int64_t n_pages, float* sums, float* maxima, float* page_sums, float* page_squares,
                            int64_t page_stride) {
    for (int64_t page = 0; page < n_pages; ++page, weights += 64, sums += 64) {
        VecF sum[kBlockVectors];
        for (int v = 0; v < kBlockVectors; ++v) sum[v] = splat(0.f);
        for (int64_t h = 0; h < n_heads; ++h) {
            VecF total = splat(0.f), total_squares = splat(0.f);
            for (int v = 0; v < kBlockVectors; ++v) {
                const VecF w = load(weights + h * weight_stride + v * kLanes);
                sum[v] = fma(w, splat(factors[h]), sum[v]);
                total = add(total, w);
                total_squares = fma(w, w, total_squares);
            }
            page_sums[h * page_stride + page] = reduce_add(total);
            page_squares[h * page_stride + page] = reduce_add(total_squares);
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

uint64_t select_topn_at_least(const float* sums, float bound) {
    uint64_t reach = 0;
    for (int v = 0; v < kBlockVectors; ++v) {
        reach |= uint64_t{at_least(load(sums + v * kLanes), splat(bound))} << (v * kLanes);
    }
    return reach;
}

constexpr SelectTopnBodies select_topn_bodies = {select_topn_group_sums, select_topn_maxima, select_topn_count_at_least,
                                                 select_topn_at_least};
