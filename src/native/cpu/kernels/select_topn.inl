// Bodies of select_topn.h.

void select_topn_group_sums(const float* weights, int64_t weight_stride, const float* factors, int64_t n_heads,
                            int64_t n, float* sums, float* maxima) {
    for (int64_t i = 0; i < n; i += 16) {
        VecF largest = splat(-1.f);
        for (int64_t lane = i; lane < i + 16; lane += kLanes) {
            VecF sum = splat(0.f);
            for (int64_t h = 0; h < n_heads; ++h) {
                sum = fma(load(weights + h * weight_stride + lane), splat(factors[h]), sum);
            }
            sum = max(sum, splat(-1.f));
            store(sums + lane, sum);
            largest = max(sum, largest);
        }
        maxima[i / 16] = reduce_max(largest);
    }
}

constexpr SelectTopnBodies select_topn_bodies = {select_topn_group_sums};
