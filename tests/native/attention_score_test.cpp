// attention_score against double precision: shapes, lengths, groups, poisoned tails, windows, threads, NaN.
#include "check.h"
#include "decode_step.h"

namespace {

using namespace kc_test;

void scores_and_mass(const kc::Kernels* kernels, const CacheShape& shape, const std::vector<int>& lengths) {
    TestContext context(kernels, 2);
    CacheCase cache(shape, static_cast<int>(lengths.size()), 33);
    for (size_t s = 0; s < lengths.size(); ++s) cache.append_random(context.cpu, static_cast<int>(s), lengths[s]);
    for (size_t s = 0; s < lengths.size(); ++s) {
        round_all(kernels, cache.k[s]);
        round_all(kernels, cache.v[s]);
    }
    const std::vector<float> q = cache.normal(lengths.size() * static_cast<size_t>(shape.n_q_heads * shape.head_dim));
    DecodeStep step(cache, q, {});
    step.score(context.cpu);
    for (size_t s = 0; s < lengths.size(); ++s) {
        for (int h = 0; h < shape.n_q_heads; ++h) {
            const size_t at = s * static_cast<size_t>(shape.n_q_heads) + static_cast<size_t>(h);
            Reference r =
                reference_weights(cache, static_cast<int>(s), q.data() + at * static_cast<size_t>(shape.head_dim),
                                  h / shape.group(), all_tokens(lengths[s]));
            const auto where = [&] {
                return std::string(kernels->name) + " head_dim " + std::to_string(shape.head_dim) + " group " +
                       std::to_string(shape.group()) + " tokens " + std::to_string(lengths[s]);
            };
            const double below = r.max - step.reference[at];
            CHECK(below > -2e-5 && below < 30 + 2e-5, where() << ": reference " << below << " below the maximum");
            r.make_against(step.reference[at]);
            CHECK(std::abs(step.mass[at] - r.mass) < 3e-5 * r.mass,
                  where() << ": mass " << step.mass[at] << " not " << r.mass);
            CHECK(step.nonfinite[at] == 0, where() << ": " << step.nonfinite[at]);
            const float* weights = step.weights_of(s, h);
            double worst = 0;
            for (int t = 0; t < lengths[s]; ++t) {
                worst = std::max(worst, std::abs(weights[t] - r.weight[static_cast<size_t>(t)]));
            }
            CHECK(worst < 2e-5 * std::exp(below), where() << ": a weight is off by " << worst);
            for (int t = lengths[s]; t < cache.sequences[s].n_pages * 64; ++t) {
                CHECK(weights[t] == 0.f, where() << ": weight " << t << " behind the end is " << weights[t]);
            }
        }
    }
}

void shapes(const kc::Kernels* kernels) {
    for (const int head_dim : {16, 32, 48, 64, 80, 96, 128, 256}) {
        for (const int group : {1, 2, 3, 4, 7, 8}) {
            if (head_dim != 64 && group != 3 && group != 8) continue;
            scores_and_mass(kernels, {2 * group, 2, head_dim}, {1, 2, 63, 64, 65, 127, 128, 129});
        }
    }
    scores_and_mass(kernels, {3, 1, 64}, {1000, 2100});
    scores_and_mass(kernels, {17, 1, 32}, {70});
}

// A sink and a recent window with pages between them absent.
void window(const kc::Kernels* kernels) {
    TestContext context(kernels, 1);
    CacheCase cache({3, 1, 64}, 1, 10);
    cache.append_random(context.cpu, 0, 600);
    round_all(kernels, cache.k[0]);
    std::vector<kc_page_view> pages;
    for (int p = 0; p < 10; ++p) {
        if (p == 0 || p >= 7) pages.push_back(cache.page(0, p));
    }
    const std::vector<float> q = cache.normal(3 * 64);
    StepOptions options;
    options.n_sink = 4;
    options.visible_from = 480;
    DecodeStep step(cache, q, options);
    cache.sequences[0].pages = pages.data();
    cache.sequences[0].n_pages = 4;
    step.wave.sequences = cache.sequences.data();
    step.score(context.cpu);
    std::vector<int> tokens = all_tokens(4);
    for (int t = 480; t < 600; ++t) tokens.push_back(t);
    for (int h = 0; h < 3; ++h) {
        Reference r = reference_weights(cache, 0, q.data() + h * 64, 0, tokens);
        r.make_against(step.reference[static_cast<size_t>(h)]);
        CHECK(std::abs(step.mass[static_cast<size_t>(h)] - r.mass) < 3e-5 * r.mass, step.mass[static_cast<size_t>(h)]);
        const float* weights = step.weights_of(0, h);
        double sum = 0;
        for (int i = 0; i < 256; ++i) sum += weights[i];
        CHECK(std::abs(sum - r.mass) < 3e-5 * r.mass, sum << " not " << r.mass);
        CHECK(weights[4] == 0.f && weights[64 + 31] == 0.f && weights[64 + 32] > 0.f, "edges of the window");
    }
}

// A token far from both ends that stands out by so many nats. Up to 30 the reference is still a score of the ends, the
// first and the last page; beyond, weights would become too large, and it is that token's.
void stands_out(const kc::Kernels* kernels, int n_before, double nats, bool raised) {
    TestContext context(kernels, 2);
    CacheCase cache({4, 2, 64}, 1, 40, 5);
    cache.append_random(context.cpu, 0, n_before);
    const std::vector<float> q = cache.normal(4 * 64);
    std::vector<float> key(2 * 64), value(2 * 64, 1.f);
    double squares = 0;
    for (int d = 0; d < 64; ++d) squares += static_cast<double>(q[static_cast<size_t>(d)]) * q[static_cast<size_t>(d)];
    for (size_t d = 0; d < 64; ++d) key[d] = static_cast<float>(q[d] * nats / squares / cache.layer.scale);
    cache.append(context.cpu, 0, key, value);
    cache.append_random(context.cpu, 0, n_before);
    round_all(kernels, cache.k[0]);
    DecodeStep step(cache, q, {});
    step.score(context.cpu);
    for (int h = 0; h < 4; ++h) {
        const size_t at = static_cast<size_t>(h);
        Reference r = reference_weights(cache, 0, q.data() + h * 64, h / 2, all_tokens(2 * n_before + 1));
        const double below = r.max - step.reference[at];
        CHECK(below > -2e-3 && below < 30 + 2e-3, kernels->name << ", " << nats << ": " << below);
        if (h == 0) CHECK((std::abs(below) < 2e-3) == raised, kernels->name << ", " << nats << ": " << below);
        r.make_against(step.reference[at]);
        CHECK(std::abs(step.mass[at] - r.mass) < 1e-4 * r.mass, kernels->name << ", " << nats << ": " << step.mass[at]);
        CHECK(step.nonfinite[at] == 0, step.nonfinite[at]);
    }
}

void threads(const kc::Kernels* kernels) {
    std::vector<float> first;
    for (const int n_threads : {1, 2, 3, 5}) {
        TestContext context(kernels, n_threads);
        CacheCase cache({6, 2, 64}, 3, 40, 7);
        for (int s = 0; s < 3; ++s) cache.append_random(context.cpu, s, 50 + 1100 * s);
        DecodeStep step(cache, cache.normal(3 * 6 * 64), {});
        step.score(context.cpu);
        std::vector<float> all = step.mass;
        for (int s = 0; s < 3; ++s) {
            for (int h = 0; h < 6; ++h) {
                all.insert(all.end(), step.weights_of(static_cast<size_t>(s), h),
                           step.weights_of(static_cast<size_t>(s), h) + cache.n_tokens(s));
            }
        }
        if (first.empty()) first = all;
        CHECK(first == all, kernels->name << ": " << n_threads << " threads give other bits");
    }
}

// A query or keys that make scores NaN or infinite: those weigh nothing and are counted, the others are as before.
void not_finite(const kc::Kernels* kernels) {
    TestContext context(kernels, 1);
    CacheCase cache({2, 1, 64}, 1, 4);
    cache.append_random(context.cpu, 0, 150);
    std::vector<float> q = cache.normal(2 * 64);
    q[64] = NAN;
    DecodeStep step(cache, q, {});
    step.score(context.cpu);
    CHECK(step.nonfinite[0] == 0 && step.nonfinite[1] == 150, step.nonfinite[0] << ", " << step.nonfinite[1]);
    CHECK(step.mass[1] == 0.f && step.mass[0] > 0.f, step.mass[1]);
    // Two keys so large that their products overflow f32.
    std::vector<float> big(64, 65504.f), value(64, 1.f);
    CacheCase other({1, 1, 64}, 1, 4);
    other.append_random(context.cpu, 0, 80);
    other.append(context.cpu, 0, big, value);
    other.append_random(context.cpu, 0, 40);
    DecodeStep overflow(other, std::vector<float>(64, 1e35f), {});
    overflow.score(context.cpu);
    CHECK(overflow.nonfinite[0] == 1, overflow.nonfinite[0]);
    CHECK(overflow.weights_of(0, 0)[80] == 0.f && overflow.mass[0] >= 1.f, overflow.mass[0]);
}

}  // namespace

int main() {
    for (const kc::Kernels* kernels : all_kernels()) {
        shapes(kernels);
        window(kernels);
        for (const int n_before : {200, 1200}) {
            stands_out(kernels, n_before, 20, false);
            stands_out(kernels, n_before, 60, true);
            stands_out(kernels, n_before, 400, true);
        }
        threads(kernels);
        not_finite(kernels);
    }
    return check_result();
}
