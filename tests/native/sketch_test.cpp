// Attention over coded rows against double precision over what the codecs kept: scores with quantised queries, plain
// low-bit caches, kept rows scored again beside a sketch of the others, prompts; the same bits from every home.
#include "check.h"
#include "decode_step.h"

namespace {

using namespace kc_test;

const int32_t kLowCodecs[] = {KC_CODEC_Q8, KC_CODEC_Q4, KC_CODEC_Q3, KC_CODEC_Q2};

std::vector<float> decoded(kc::CpuContext& context, const CacheCase& cache, int s, bool is_v, int head, int token) {
    std::vector<float> row(static_cast<size_t>(cache.shape.head_dim));
    kc::kv_decode(context, cache.layer, cache.sequences[static_cast<size_t>(s)], is_v, head, token, 1, row.data());
    return row;
}

// The query as it meets coded keys: rotated, in steps of its largest number / 127 (or / 32767), turned back.
std::vector<float> quantised(const kc::Kernels* kernels, const float* q, int head_dim, int32_t codec) {
    std::vector<float> x(q, q + head_dim);
    kernels->codec.rotate(x.data(), head_dim);
    float largest = 0;
    for (const float f : x) largest = std::max(largest, std::abs(f));
    const float step = largest / (codec == KC_CODEC_Q8 ? 32767.f : 127.f);
    for (float& f : x) f = std::nearbyint(f / step) * step;
    kernels->codec.rotate_back(x.data(), head_dim);
    return x;
}

// Score of a coded key: the centre meets the query as it is, the rest the quantised one.
double coded_score(kc::CpuContext& context, const CacheCase& cache, int s, const float* q, int head, int token) {
    const int head_dim = cache.shape.head_dim;
    const std::vector<float> key = decoded(context, cache, s, false, head, token);
    std::vector<float> centre(static_cast<size_t>(head_dim), 0.f);
    if (token >= 64 && cache.shape.k_codec != KC_CODEC_F16) {
        const float* rotated = kc::centre_of(cache.layer.k, cache.sequences[static_cast<size_t>(s)], head, head_dim);
        centre.assign(rotated, rotated + head_dim);
        context.kernels->codec.rotate_back(centre.data(), head_dim);
    }
    const std::vector<float> coarse = token < 64 || cache.shape.k_codec == KC_CODEC_F16
                                          ? std::vector<float>(q, q + head_dim)
                                          : quantised(context.kernels, q, head_dim, cache.shape.k_codec);
    double sum = 0;
    for (size_t d = 0; d < key.size(); ++d) {
        sum += static_cast<double>(q[d]) * centre[d] + (static_cast<double>(key[d]) - centre[d]) * coarse[d];
    }
    return sum * cache.layer.scale;
}

double exact_score(const CacheCase& cache, int s, const float* q, int head, int token) {
    double sum = 0;
    for (int d = 0; d < cache.shape.head_dim; ++d) sum += static_cast<double>(q[d]) * cache.key(s, token, head)[d];
    return sum * cache.layer.scale;
}

struct Case {
    TestContext context;
    CacheCase cache;
    std::vector<float> q;
    Case(const kc::Kernels* kernels, const CacheShape& shape, int n, int n_threads = 2)
        : context(kernels, n_threads), cache(shape, 1, (n + 63) / 64 + 1) {
        // A mean that is not zero, so that the centre matters; in two pieces, as a prompt and a turn come.
        const int first = n / 3;
        for (const int count : {first, n - first}) {
            if (count == 0) continue;
            const size_t size = static_cast<size_t>(count * shape.n_kv_heads * shape.head_dim);
            std::vector<float> k = cache.normal(size), v = cache.normal(size);
            for (size_t i = 0; i < size; ++i) {
                k[i] += static_cast<float>(i % 5) - 2;
                v[i] += static_cast<float>(i % 3) - 0.5f;
            }
            cache.append(context.cpu, 0, k, v);
        }
        round_all(kernels, cache.k[0]);
        round_all(kernels, cache.v[0]);
        q = cache.normal(static_cast<size_t>(shape.n_q_heads * shape.head_dim));
    }
    const float* query(int h) const { return q.data() + h * cache.shape.head_dim; }
};

// Everything from coded stores, without exact rows.
void plain(const kc::Kernels* kernels, const CacheShape& shape, int n) {
    Case test(kernels, shape, n);
    DecodeStep step(test.cache, test.q, {});
    step.run(test.context.cpu);
    for (int h = 0; h < shape.n_q_heads; ++h) {
        const int head = h / shape.group();
        std::vector<double> scores, out(static_cast<size_t>(shape.head_dim));
        double max = -INFINITY, mass = 0;
        for (int t = 0; t < n; ++t) {
            scores.push_back(coded_score(test.context.cpu, test.cache, 0, test.query(h), head, t));
            max = std::max(max, scores.back());
        }
        for (double& score : scores) mass += score = std::exp(score - max);
        for (int t = 0; t < n; ++t) {
            const std::vector<float> value = decoded(test.context.cpu, test.cache, 0, true, head, t);
            for (size_t d = 0; d < out.size(); ++d) out[d] += scores[static_cast<size_t>(t)] / mass * value[d];
        }
        double worst = 0;
        for (size_t d = 0; d < out.size(); ++d) {
            worst = std::max(worst, std::abs(step.out[static_cast<size_t>(h * shape.head_dim) + d] - out[d]));
        }
        CHECK(worst < 1e-4, kernels->name << ": k " << shape.k_codec << ", v " << shape.v_codec << ", head_dim "
                                          << shape.head_dim << ", group " << shape.group() << ", " << n
                                          << " tokens: off by " << worst);
        CHECK(step.nonfinite[static_cast<size_t>(h)] == 0, step.nonfinite[static_cast<size_t>(h)]);
    }
}

// Kept rows exactly, the others through their sketch; tail and error of the mixture.
void sketched(const kc::Kernels* kernels, CacheShape shape, int n, int n_keep) {
    shape.exact = true;
    shape.exact_has_k = shape.k_codec > KC_CODEC_Q8;
    Case test(kernels, shape, n);
    for (int p = 1; p + 1 < test.cache.sequences[0].n_pages; p += 2) test.cache.spill_page(0, p);
    StepOptions options;
    options.n_keep = n_keep;
    options.mode = KC_MIX_SKETCHED;
    options.n_recent = 8;
    options.n_hot = 20;
    DecodeStep step(test.cache, test.q, options);
    step.run(test.context.cpu);
    const bool rescored = shape.exact_has_k;
    for (int h = 0; h < shape.n_q_heads; ++h) {
        const int head = h / shape.group();
        std::vector<bool> kept(static_cast<size_t>(n));
        for (int i = 0; i < step.n_kept[static_cast<size_t>(head)]; ++i)
            kept[static_cast<size_t>(step.kept_of(0, head)[i])] = true;
        std::vector<double> scores, out(static_cast<size_t>(shape.head_dim));
        double max = -INFINITY, mass = 0, tail = 0, squares = 0;
        for (int t = 0; t < n; ++t) {
            const bool exactly = rescored && (kept[static_cast<size_t>(t)] || t >= n - options.n_recent);
            scores.push_back(exactly ? exact_score(test.cache, 0, test.query(h), head, t)
                                     : coded_score(test.context.cpu, test.cache, 0, test.query(h), head, t));
            max = std::max(max, scores.back());
        }
        for (double& score : scores) mass += score = std::exp(score - max);
        for (int t = 0; t < n; ++t) {
            const double w = scores[static_cast<size_t>(t)] / mass;
            const std::vector<float> sketch = decoded(test.context.cpu, test.cache, 0, true, head, t);
            const bool exactly = kept[static_cast<size_t>(t)];
            for (size_t d = 0; d < out.size(); ++d)
                out[d] += w * (exactly ? test.cache.value(0, t, head)[d] : sketch[d]);
            if (!exactly) tail += w, squares += w * w;
        }
        double worst = 0;
        for (size_t d = 0; d < out.size(); ++d) {
            worst = std::max(worst, std::abs(step.out[static_cast<size_t>(h * shape.head_dim) + d] - out[d]));
        }
        const size_t at = static_cast<size_t>(h);
        CHECK(worst < 1e-4, kernels->name << ": k " << shape.k_codec << ", v " << shape.v_codec << ", head_dim "
                                          << shape.head_dim << ", keep " << n_keep << ", " << n << " tokens: off by "
                                          << worst);
        CHECK(std::abs(step.mixed_tail[at] - tail) < 1e-4, step.mixed_tail[at] << " not " << tail);
        CHECK(std::abs(step.mixed_error[at] - std::sqrt(squares)) < 1e-4,
              step.mixed_error[at] << " not " << std::sqrt(squares));
    }
}

// With every row kept a sketch is attention over f16.
void everything_kept(const kc::Kernels* kernels, CacheShape shape) {
    const CacheShape f16 = {shape.n_q_heads, shape.n_kv_heads, shape.head_dim};
    shape.exact = shape.exact_has_k = true;
    const int n = 700;
    Case full(kernels, f16, n), sketch(kernels, shape, n);
    DecodeStep reference(full.cache, full.q, {});
    StepOptions options;
    options.n_keep = n;
    options.mode = KC_MIX_SKETCHED;
    DecodeStep step(sketch.cache, full.q, options);
    reference.run(full.context.cpu);
    step.run(sketch.context.cpu);
    double off = 0, size = 0;
    for (size_t i = 0; i < step.out.size(); ++i) {
        off += std::pow(static_cast<double>(step.out[i]) - reference.out[i], 2);
        size += std::pow(reference.out[i], 2);
    }
    CHECK(std::sqrt(off / size) < 1e-5, kernels->name << ": off by " << std::sqrt(off / size));
    for (const float tail : step.mixed_tail) CHECK(tail == 0.f, tail);
}

// Homes, hot rows and threads do not show in the bits.
void same_bits(const kc::Kernels* kernels, CacheShape shape) {
    shape.exact = shape.exact_has_k = true;
    std::vector<float> first;
    for (const bool spilled : {false, true}) {
        for (const int n_threads : {1, 3}) {
            Case test(kernels, shape, 1500, n_threads);
            for (int p = 1; spilled && p + 1 < test.cache.sequences[0].n_pages; ++p) test.cache.spill_page(0, p);
            StepOptions options;
            options.n_keep = 40;
            options.mode = KC_MIX_SKETCHED;
            options.n_hot = spilled ? 90 : 0;
            DecodeStep step(test.cache, test.q, options);
            for (int round = 0; round < 2; ++round) {
                step.run(test.context.cpu);
                if (first.empty()) first = step.out;
                CHECK(step.out == first,
                      kernels->name << ": spilled " << spilled << ", " << n_threads << " threads give other bits");
            }
        }
    }
}

// Exact scores far above or below the largest coded one, which kept tokens had: weights neither overflow nor vanish.
void far_from_coded(const kc::Kernels* kernels, float size) {
    const CacheShape shape = {1, 1, 64, KC_CODEC_Q2, KC_CODEC_Q2, true, true};
    Case test(kernels, shape, 300);
    std::vector<float> k(64), v(64, 7.f);
    for (size_t d = 0; d < 64; ++d) k[d] = size * (d % 2 == 0 ? 1.f : -1.f) * (d % 3 == 0 ? 1.f : 0.2f);
    test.cache.append(test.context.cpu, 0, k, v);
    test.cache.append_random(test.context.cpu, 0, 40);
    test.q = k;
    StepOptions options;
    options.n_keep = 3;
    options.mode = KC_MIX_SKETCHED;
    DecodeStep step(test.cache, test.q, options);
    step.run(test.context.cpu);
    for (const float x : step.out) CHECK(std::abs(x - 7.f) < 1e-3, x);
    CHECK(step.mixed_tail[0] < 1e-3f, step.mixed_tail[0]);
}

// A prompt over coded stores, with and without exact rows beside them.
void prompt(const kc::Kernels* kernels, CacheShape shape, int n, bool exact) {
    shape.exact = exact;
    shape.exact_has_k = exact && shape.k_codec > KC_CODEC_Q8;
    Case test(kernels, shape, n);
    kc_sequence_view& view = test.cache.sequences[0];
    const std::vector<float> q = test.cache.normal(static_cast<size_t>(view.n_rows * shape.n_q_heads * shape.head_dim));
    kc_attention_full_params params = {};
    params.n_sequences = 1;
    params.layer = &test.cache.layer;
    params.sequences = &view;
    params.n_recent = -1;
    params.q = q.data();
    std::vector<uint8_t> scratch(
        kc::attention_full_scratch_bytes(test.context.cpu, test.cache.layer, view.n_pages * 64), 0xff);
    params.scratch = scratch.data();
    std::vector<float> out(q.size(), NAN);
    params.out = out.data();
    kc::attention_full(test.context.cpu, params);
    double worst = 0;
    for (int r = 0; r < view.n_rows; r += 1 + view.n_rows / 20) {
        for (int h = 0; h < shape.n_q_heads; ++h) {
            const int head = h / shape.group();
            const float* query = q.data() + (r * shape.n_q_heads + h) * shape.head_dim;
            std::vector<double> scores, expected(static_cast<size_t>(shape.head_dim));
            double max = -INFINITY, mass = 0;
            for (int t = 0; t <= view.n_past + r; ++t) {
                double score = 0;
                const std::vector<float> key = decoded(test.context.cpu, test.cache, 0, false, head, t);
                for (size_t d = 0; d < key.size(); ++d) score += static_cast<double>(query[d]) * key[d];
                scores.push_back(shape.exact_has_k ? exact_score(test.cache, 0, query, head, t)
                                                   : score * test.cache.layer.scale);
                max = std::max(max, scores.back());
            }
            for (double& score : scores) mass += score = std::exp(score - max);
            for (size_t t = 0; t < scores.size(); ++t) {
                const std::vector<float> coded =
                    exact ? std::vector<float>()
                          : decoded(test.context.cpu, test.cache, 0, true, head, static_cast<int>(t));
                const float* value = exact ? test.cache.value(0, static_cast<int>(t), head) : coded.data();
                for (size_t d = 0; d < expected.size(); ++d) expected[d] += scores[t] / mass * value[d];
            }
            for (size_t d = 0; d < expected.size(); ++d) {
                worst = std::max(
                    worst,
                    std::abs(out[static_cast<size_t>((r * shape.n_q_heads + h) * shape.head_dim) + d] - expected[d]));
            }
        }
    }
    CHECK(worst < 1e-4, kernels->name << ": prompt over k " << shape.k_codec << ", v " << shape.v_codec << ", head_dim "
                                      << shape.head_dim << ", exact " << exact << ": off by " << worst);
}

}  // namespace

int main() {
    for (const kc::Kernels* kernels : all_kernels()) {
        for (const int32_t k_codec : kLowCodecs) {
            for (const int32_t v_codec : kLowCodecs) {
                plain(kernels, {3, 1, 64, k_codec, v_codec}, 400);
                sketched(kernels, {3, 1, 64, k_codec, v_codec}, 400, 12);
            }
        }
        for (const int head_dim : {16, 48, 80, 96, 128, 256}) {
            for (const int32_t codec : kLowCodecs) {
                plain(kernels, {2, 1, head_dim, codec, codec}, 150);
                sketched(kernels, {2, 1, head_dim, codec, codec}, 150, 5);
                prompt(kernels, {2, 1, head_dim, codec, codec}, 100, false);
            }
        }
        for (const int group : {1, 2, 4, 7, 8, 17}) {
            plain(kernels, {group, 1, 32, KC_CODEC_Q4, KC_CODEC_Q2}, 200);
            plain(kernels, {group, 1, 32, KC_CODEC_Q8, KC_CODEC_Q8}, 200);
        }
        for (const int n : {1, 63, 64, 65, 128, 129}) {
            plain(kernels, {2, 2, 64, KC_CODEC_Q4, KC_CODEC_Q2}, n);
            sketched(kernels, {2, 2, 64, KC_CODEC_Q4, KC_CODEC_Q2}, n, 3);
        }
        plain(kernels, {3, 1, 64, KC_CODEC_F16, KC_CODEC_Q2}, 300);
        sketched(kernels, {3, 1, 64, KC_CODEC_F16, KC_CODEC_Q2}, 300, 6);
        sketched(kernels, {3, 1, 64, KC_CODEC_Q4, KC_CODEC_Q2}, 300, 0);
        everything_kept(kernels, {3, 1, 64, KC_CODEC_Q4, KC_CODEC_Q2});
        same_bits(kernels, {6, 2, 64, KC_CODEC_Q4, KC_CODEC_Q2});
        for (const float size : {-3000.f, -30.f, 5.f, 30.f, 300.f, 3000.f}) far_from_coded(kernels, size);
        for (const bool exact : {false, true}) {
            prompt(kernels, {3, 1, 64, KC_CODEC_Q8, KC_CODEC_Q8}, 300, exact);
            prompt(kernels, {3, 1, 64, KC_CODEC_Q4, KC_CODEC_Q2}, 300, exact);
        }
    }
    return check_result();
}
