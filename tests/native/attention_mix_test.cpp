// attention_mix against double precision, and its laws: the bound of exact-weights, the same bits from every home, and
// `full` equal to a kept list that holds everything.
#include "check.h"
#include "decode_step.h"

namespace {

using namespace kc_test;

std::vector<int> kept_list(const DecodeStep& step, size_t query, int kv_head) {
    const int32_t* kept = step.kept_of(query, kv_head);
    return {
        kept,
        kept + step.n_kept[query * static_cast<size_t>(step.cache.shape.n_kv_heads) + static_cast<size_t>(kv_head)]};
}

void against_reference(const kc::Kernels* kernels, CacheShape shape, const std::vector<int>& lengths, int n_keep,
                       int mode) {
    TestContext context(kernels, 2);
    shape.exact = n_keep >= 0;
    if (shape.exact) shape.v_codec = 0;
    CacheCase cache(shape, static_cast<int>(lengths.size()), 33);
    for (size_t s = 0; s < lengths.size(); ++s) cache.append_random(context.cpu, static_cast<int>(s), lengths[s]);
    for (size_t s = 0; s < lengths.size(); ++s) {
        round_all(kernels, cache.k[s]);
        round_all(kernels, cache.v[s]);
    }
    const size_t head_dim = static_cast<size_t>(shape.head_dim);
    const std::vector<float> q = cache.normal(lengths.size() * static_cast<size_t>(shape.n_q_heads) * head_dim);
    StepOptions options;
    options.n_keep = n_keep;
    options.n_recent = 8;
    options.mode = mode;
    DecodeStep step(cache, q, options);
    step.run(context.cpu);
    for (size_t s = 0; s < lengths.size(); ++s) {
        for (int h = 0; h < shape.n_q_heads; ++h) {
            const size_t at = s * static_cast<size_t>(shape.n_q_heads) + static_cast<size_t>(h);
            const float* query = q.data() + at * head_dim;
            const int kv_head = h / shape.group(), seq = static_cast<int>(s);
            const std::vector<int> everything = all_tokens(lengths[s]);
            const std::vector<int> tokens = n_keep < 0 ? everything : kept_list(step, s, kv_head);
            std::vector<double> expected = reference_attention(cache, seq, query, kv_head, tokens);
            const std::vector<double> full = reference_attention(cache, seq, query, kv_head, everything);
            const Reference all = reference_weights(cache, seq, query, kv_head, everything);
            double kept_mass = 0, largest_norm = 0, tail = 0, squares = 0;
            std::vector<bool> is_kept(everything.size());
            for (const int t : tokens) {
                kept_mass += all.weight[static_cast<size_t>(t)] / all.mass;
                is_kept[static_cast<size_t>(t)] = true;
            }
            for (const int t : everything) {
                double norm = 0;
                const double weight =
                    is_kept[static_cast<size_t>(t)] ? 0 : all.weight[static_cast<size_t>(t)] / all.mass;
                tail += weight;
                squares += weight * weight;
                for (size_t d = 0; d < head_dim; ++d) norm += std::pow(cache.value(seq, t, kv_head)[d], 2);
                if (!is_kept[static_cast<size_t>(t)]) largest_norm = std::max(largest_norm, std::sqrt(norm));
            }
            double worst = 0, to_full = 0;
            for (size_t d = 0; d < head_dim; ++d) {
                const double out = step.out[at * head_dim + d];
                if (mode == KC_MIX_EXACT_WEIGHTS) expected[d] *= kept_mass;
                worst = std::max(worst, std::abs(out - expected[d]));
                to_full += std::pow(out - full[d], 2);
            }
            CHECK(worst < 2e-5, kernels->name << " head_dim " << head_dim << " tokens " << lengths[s] << " keep "
                                              << n_keep << ": off by " << worst);
            if (n_keep < 0) {
                CHECK(std::isnan(step.mixed_tail[at]) && std::isnan(step.mixed_error[at]), "nothing was chosen");
            } else {
                CHECK(std::abs(step.mixed_tail[at] - tail) <= 2e-5 * tail, step.mixed_tail[at] << " not " << tail);
                CHECK(std::abs(step.mixed_error[at] - std::sqrt(squares)) <= 2e-5 * std::sqrt(squares),
                      step.mixed_error[at] << " not " << std::sqrt(squares));
            }
            if (mode == KC_MIX_EXACT_WEIGHTS) {
                const double bound = (1 - kept_mass) * largest_norm + 1e-4;
                CHECK(std::sqrt(to_full) <= bound, std::sqrt(to_full) << " exceeds the bound " << bound);
            }
        }
    }
}

// The worst case of exact-weights: values outside all point one way, with weights as large as can be.
void adversarial_bound(const kc::Kernels* kernels) {
    TestContext context(kernels, 1);
    CacheCase cache({2, 1, 32, KC_CODEC_F16, 0, true}, 1, 20);
    const int n = 1000;
    std::vector<float> k(static_cast<size_t>(n) * 32, 0.f), v(k.size());
    for (int t = 0; t < n; ++t) {
        // All scores nearly equal, so the tail is as large as it can be, and a few slightly better.
        k[static_cast<size_t>(t) * 32] = t % 100 == 0 ? 0.01f : 0.f;
        for (size_t d = 0; d < 32; ++d) v[static_cast<size_t>(t) * 32 + d] = t % 100 == 0 ? -100.f : 100.f;
    }
    cache.append(context.cpu, 0, k, v);
    StepOptions options;
    options.n_keep = 5;
    options.n_recent = 1;
    options.mode = KC_MIX_EXACT_WEIGHTS;
    std::vector<float> q(64, 0.f);
    q[0] = q[32] = 1.f;
    DecodeStep step(cache, q, options);
    step.run(context.cpu);
    for (int h = 0; h < 2; ++h) {
        const std::vector<double> full = reference_attention(cache, 0, q.data() + h * 32, 0, all_tokens(n));
        double off = 0;
        for (size_t d = 0; d < 32; ++d) off += std::pow(step.out[static_cast<size_t>(h) * 32 + d] - full[d], 2);
        const double bound = step.tail[static_cast<size_t>(h)] * 100 * std::sqrt(32.);
        CHECK(std::sqrt(off) <= bound * (1 + 1e-5) && std::sqrt(off) > 0.9 * bound,
              std::sqrt(off) << " against the bound " << bound);
    }
}

enum class Home { store, fast, spilled, hot };

std::vector<float> everything_from(const kc::Kernels* kernels, CacheShape shape, Home home, int n_threads, int batch) {
    TestContext context(kernels, n_threads);
    shape.exact = home != Home::store;
    const int32_t codec = shape.v_codec;
    if (shape.exact) {
        shape.exact_codec = codec;
        shape.v_codec = 0;
    }
    std::vector<float> result;
    const std::vector<int> lengths = {1, 64, 130, 1000, 2100};
    for (size_t begin = 0; begin < lengths.size(); begin += static_cast<size_t>(batch)) {
        const size_t end = std::min(lengths.size(), begin + static_cast<size_t>(batch));
        CacheCase cache(shape, static_cast<int>(end - begin), 33);
        std::vector<float> q;
        for (size_t s = begin; s < end; ++s) {
            cache.random.seed(static_cast<unsigned>(100 + s));
            cache.append_random(context.cpu, static_cast<int>(s - begin), lengths[s]);
            const std::vector<float> qs = cache.normal(static_cast<size_t>(shape.n_q_heads * shape.head_dim));
            q.insert(q.end(), qs.begin(), qs.end());
            for (int p = 0; home >= Home::spilled && p + 1 < cache.sequences[s - begin].n_pages; ++p) {
                if (cache.layer.v.first == nullptr || p > 0) cache.spill_page(static_cast<int>(s - begin), p);
            }
        }
        StepOptions options;
        options.n_keep = home == Home::store ? -1 : 100000;
        options.n_hot = home == Home::spilled ? 7 : home == Home::hot ? 2200 : 0;
        DecodeStep step(cache, q, options);
        if (home == Home::hot) step.run(context.cpu);
        step.run(context.cpu);
        if (home == Home::hot) {
            for (const int32_t n : step.n_restored) CHECK(n == 0, n << " rows read again");
        }
        result.insert(result.end(), step.out.begin(), step.out.end());
    }
    return result;
}

void same_bits(const kc::Kernels* kernels, const CacheShape& shape) {
    const std::vector<float> first = everything_from(kernels, shape, Home::store, 1, 1);
    for (const float x : first) CHECK(std::isfinite(x), x);
    for (const Home home : {Home::store, Home::fast, Home::spilled, Home::hot}) {
        for (const int n_threads : {1, 2, 3, 5}) {
            for (const int batch : {1, 5}) {
                if (batch == 1 && n_threads != 2) continue;
                CHECK(everything_from(kernels, shape, home, n_threads, batch) == first,
                      kernels->name << ": home " << static_cast<int>(home) << ", " << n_threads << " threads, batch "
                                    << batch << " give other bits");
            }
        }
    }
}

}  // namespace

int main() {
    for (const kc::Kernels* kernels : all_kernels()) {
        for (const int head_dim : {16, 32, 48, 64, 80, 96, 128, 256}) {
            for (const int group : {1, 2, 3, 4, 7, 8}) {
                if (head_dim != 64 && group != 3 && group != 8) continue;
                const CacheShape shape = {2 * group, 2, head_dim};
                against_reference(kernels, shape, {1, 2, 63, 64, 65, 129}, -1, KC_MIX_RENORMALIZED);
                against_reference(kernels, shape, {2, 64, 300}, 16, KC_MIX_RENORMALIZED);
                against_reference(kernels, shape, {2, 64, 300}, 16, KC_MIX_EXACT_WEIGHTS);
            }
        }
        against_reference(kernels, {17, 1, 32}, {70, 1500}, 8, KC_MIX_RENORMALIZED);
        adversarial_bound(kernels);
        same_bits(kernels, {6, 2, 64});
    }
    return check_result();
}
