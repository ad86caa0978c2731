// The elementwise kernels on every instruction set against double precision, in poisoned surroundings, with the same
// bits for any number of threads.
#include "cpu/kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/context.h"
#include "guarded.h"
#include "isa_list.h"

namespace {

using kc::CpuContext;
using kc_test::GuardedFloats;

const float kNan = std::nanf("");

std::mt19937 random_bits(7);

float random_float(float scale = 1) {
    std::normal_distribution<float> normal;
    return scale * normal(random_bits);
}

void fill(GuardedFloats& v, float scale = 1) {
    for (int64_t i = 0; i < v.size(); ++i) v[i] = random_float(scale);
}

bool same_bits(const GuardedFloats& a, const GuardedFloats& b) {
    return std::memcmp(a.data(), b.data(), static_cast<size_t>(a.size()) * sizeof(float)) == 0;
}

struct Case {
    CpuContext& context;
    std::string name;
};

void rms_norm(const Case& c) {
    for (int64_t dim = 1; dim <= 70; ++dim) {
        for (const int64_t n_tokens : {1, 3}) {
            const float eps = 1e-5f, scale = dim % 5 == 0 ? 1e-4f : 10.f;
            GuardedFloats x(n_tokens * dim, 0, 1), weight(dim, 0, 3), out(n_tokens * dim, kNan, 2);
            fill(x, scale);
            fill(weight);
            kc::rms_norm(c.context, x.data(), weight.data(), n_tokens, dim, eps, out.data());
            for (int64_t t = 0; t < n_tokens; ++t) {
                double squares = 0;
                for (int64_t i = 0; i < dim; ++i) squares += static_cast<double>(x[t * dim + i]) * x[t * dim + i];
                for (int64_t i = 0; i < dim; ++i) {
                    const double expected = x[t * dim + i] /
                                            std::sqrt(squares / static_cast<double>(dim) + static_cast<double>(eps)) *
                                            weight[i];
                    CHECK(std::fabs(out[t * dim + i] - expected) <= 2e-6 * std::fabs(expected),
                          c.name << " dim " << dim << ": " << out[t * dim + i] << " is not " << expected);
                }
            }
            kc::rms_norm(c.context, x.data(), weight.data(), n_tokens, dim, eps, x.data());
            CHECK(same_bits(x, out), c.name << " in place, dim " << dim);
            CHECK(out.margins_intact() && x.margins_intact(), c.name << " dim " << dim);
        }
    }
}

void rope(const Case& c) {
    for (const int64_t head_dim : {2, 6, 16, 64, 70}) {
        for (const int64_t n_pairs : {int64_t{1}, head_dim / 4, head_dim / 2}) {
            if (n_pairs < 1) continue;
            const int64_t n_tokens = 4, n_heads = 3;
            std::vector<int32_t> positions = {0, 1, 777, 131071};
            GuardedFloats inv_freq(n_pairs), table(n_tokens * n_pairs * 2, kNan, 1);
            for (int64_t p = 0; p < n_pairs; ++p) {
                inv_freq[p] =
                    static_cast<float>(std::pow(10000.0, -static_cast<double>(p) / static_cast<double>(n_pairs)));
            }
            const float magnitude = 1.25f;
            kc::rope_table(c.context, positions.data(), inv_freq.data(), n_tokens, n_pairs, magnitude, table.data());
            CHECK(table.margins_intact(), c.name);
            for (const int32_t pairing : {KC_ROPE_INTERLEAVED, KC_ROPE_HALVES}) {
                GuardedFloats x(n_tokens * n_heads * head_dim, 0, 1);
                fill(x);
                const GuardedFloats before = x;
                kc::rope(c.context, table.data(), n_tokens, n_heads, head_dim, n_pairs, pairing, x.data());
                for (int64_t t = 0; t < n_tokens; ++t) {
                    for (int64_t h = 0; h < n_heads; ++h) {
                        const int64_t head = (t * n_heads + h) * head_dim;
                        std::vector<double> expected(before.data() + head, before.data() + head + head_dim);
                        for (int64_t p = 0; p < n_pairs; ++p) {
                            const int64_t i = pairing == KC_ROPE_INTERLEAVED ? 2 * p : p;
                            const int64_t j = pairing == KC_ROPE_INTERLEAVED ? 2 * p + 1 : p + n_pairs;
                            const double angle = static_cast<double>(positions[static_cast<size_t>(t)]) * inv_freq[p];
                            const double a = before[head + i], b = before[head + j];
                            expected[static_cast<size_t>(i)] = 1.25 * (a * std::cos(angle) - b * std::sin(angle));
                            expected[static_cast<size_t>(j)] = 1.25 * (a * std::sin(angle) + b * std::cos(angle));
                        }
                        for (int64_t i = 0; i < head_dim; ++i) {
                            const double e = expected[static_cast<size_t>(i)];
                            CHECK(std::fabs(x[head + i] - e) <= 2e-6 * (1 + std::fabs(e)) * 4,
                                  c.name << " pairing " << pairing << " head_dim " << head_dim << " pairs " << n_pairs
                                         << ": " << x[head + i] << " is not " << e);
                            if (i >= 2 * n_pairs)
                                CHECK(x[head + i] == before[head + i], c.name << " beyond the rotated part");
                        }
                    }
                }
                CHECK(x.margins_intact(), c.name);
            }
        }
    }
}

void swiglu_and_add(const Case& c) {
    for (int64_t n = 1; n <= 70; ++n) {
        GuardedFloats a(n, 0, 1), b(n, 0, 2), out(n, kNan, 3);
        fill(a, n % 3 == 0 ? 40.f : 3.f);
        fill(b);
        if (n > 8) {
            a[3] = 200;
            a[4] = -200;
            a[5] = 0;
        }
        kc::swiglu(c.context, a.data(), b.data(), n, out.data());
        for (int64_t i = 0; i < n; ++i) {
            const double expected = a[i] / (1 + std::exp(-static_cast<double>(a[i]))) * b[i];
            CHECK(std::fabs(out[i] - expected) <= 1e-6 * std::fabs(expected) + 1e-35,
                  c.name << " swiglu n " << n << ": " << out[i] << " is not " << expected << " gate " << a[i]);
        }
        CHECK(out.margins_intact(), c.name);
        GuardedFloats in_place = a;
        kc::swiglu(c.context, in_place.data(), b.data(), n, in_place.data());
        CHECK(same_bits(in_place, out), c.name << " swiglu in place");
        kc::add(c.context, a.data(), b.data(), n, out.data());
        for (int64_t i = 0; i < n; ++i) CHECK(out[i] == a[i] + b[i], c.name << " add " << i);
        CHECK(out.margins_intact(), c.name);
        a[n / 2] = kNan;
        kc::swiglu(c.context, a.data(), b.data(), n, out.data());
        CHECK(std::isnan(out[n / 2]), c.name << " swiglu loses a NaN");
    }
}

void softmax(const Case& c) {
    for (int64_t n = 1; n <= 70; ++n) {
        const int64_t n_rows = 3;
        GuardedFloats x(n_rows * n, 0, 1), out(n_rows * n, kNan, 2);
        fill(x, n % 2 == 0 ? 1.f : 60.f);
        if (n > 2) x[n + 1] = -HUGE_VALF;
        if (n > 4) x[2 * n] = 1e30f;  // the others vanish, nothing overflows
        kc::softmax(c.context, x.data(), n_rows, n, out.data());
        for (int64_t r = 0; r < n_rows; ++r) {
            double most = -HUGE_VAL, sum = 0;
            for (int64_t i = 0; i < n; ++i) most = std::max(most, static_cast<double>(x[r * n + i]));
            for (int64_t i = 0; i < n; ++i) sum += std::exp(x[r * n + i] - most);
            for (int64_t i = 0; i < n; ++i) {
                const double expected = std::exp(x[r * n + i] - most) / sum;
                // The rounding of x - most in floats counts the more, the further away from the maximum.
                const double tolerance = 1e-6 + 6e-8 * std::min(most - x[r * n + i], 100.0);
                CHECK(std::fabs(out[r * n + i] - expected) <= tolerance * expected + 2e-38,
                      c.name << " softmax n " << n << ": " << out[r * n + i] << " is not " << expected);
            }
        }
        CHECK(out.margins_intact(), c.name);
        kc::softmax(c.context, x.data(), n_rows, n, x.data());
        CHECK(same_bits(x, out), c.name << " softmax in place");
        x[n - 1] = kNan;
        kc::softmax(c.context, x.data(), 1, n, out.data());
        for (int64_t i = 0; i < n; ++i) CHECK(std::isnan(out[i]), c.name << " softmax hides a NaN");
    }
}

void argmax(const Case& c) {
    const auto of = [&](const std::vector<float>& row) {
        GuardedFloats x(static_cast<int64_t>(row.size()), 0, 1);
        std::copy(row.begin(), row.end(), x.data());
        int32_t index = -1;
        kc::argmax(c.context, x.data(), 1, x.size(), &index);
        return index;
    };
    for (int64_t n = 1; n <= 70; ++n) {
        for (int64_t at = 0; at < n; ++at) {
            std::vector<float> row(static_cast<size_t>(n));
            for (float& f : row) f = -std::fabs(random_float()) - 1;
            row[static_cast<size_t>(at)] = -0.5f;
            CHECK(of(row) == at, c.name << " argmax n " << n << " at " << at);
            row[static_cast<size_t>(n - 1)] = -0.5f;  // a tie
            CHECK(of(row) == at, c.name << " argmax tie n " << n << " at " << at);
            row[static_cast<size_t>(at)] = kNan;
            CHECK(of(row) == (at == n - 1 ? (n == 1 ? 0 : of(std::vector<float>(row.begin(), row.end() - 1))) : n - 1),
                  c.name << " argmax NaN n " << n << " at " << at);
        }
    }
    CHECK(of({kNan, kNan, kNan}) == 0, c.name << " only NaN");
    CHECK(of({kNan, -HUGE_VALF, -HUGE_VALF}) == 1, c.name << " minus infinity ranks above NaN");
    CHECK(of(std::vector<float>(40, 3.f)) == 0, c.name << " all equal");
    CHECK(of({0.f, -0.f, 0.f}) == 0 && of({-0.f, 0.f}) == 0, c.name << " zeros are equal");
}

// Large enough that pieces go to other threads: the same bits with 1, 2, 3 and 7.
void same_bits_for_any_threads(const kc::Kernels* kernels) {
    const int64_t n_rows = 37, n = 2003;
    GuardedFloats x(n_rows * n), y(n_rows * n), weight(n);
    fill(x, 3);
    fill(y);
    fill(weight);
    std::vector<GuardedFloats> expected;
    for (const int n_threads : {1, 2, 3, 7}) {
        CpuContext context(n_threads);
        context.kernels = kernels;
        std::vector<GuardedFloats> out(6, GuardedFloats(n_rows * n));
        kc::rms_norm(context, x.data(), weight.data(), n_rows, n, 1e-6f, out[0].data());
        kc::swiglu(context, x.data(), y.data(), n_rows * n, out[1].data());
        kc::add(context, x.data(), y.data(), n_rows * n, out[2].data());
        kc::softmax(context, x.data(), n_rows, n, out[3].data());
        std::vector<int32_t> indices(n_rows), positions(n_rows);
        kc::argmax(context, x.data(), n_rows, n, indices.data());
        for (int64_t i = 0; i < n_rows; ++i) {
            out[4][i] = static_cast<float>(indices[static_cast<size_t>(i)]);
            positions[static_cast<size_t>(i)] = static_cast<int32_t>(11 * i);
        }
        GuardedFloats table(n_rows * 1000 * 2);
        kc::rope_table(context, positions.data(), weight.data(), n_rows, 1000, 1.f, table.data());
        out[5] = x;
        kc::rope(context, table.data(), n_rows, 1, n, 1000, KC_ROPE_HALVES, out[5].data());
        if (expected.empty()) expected = out;
        for (size_t i = 0; i < out.size(); ++i) {
            CHECK(same_bits(out[i], expected[i]), kernels->name << " kernel " << i << ", " << n_threads << " threads");
        }
    }
}

}  // namespace

int main() {
    for (const kc::Kernels* kernels : kc_test::all_kernels()) {
        CpuContext context(2);
        context.kernels = kernels;
        const Case c = {context, kernels->name};
        rms_norm(c);
        rope(c);
        swiglu_and_add(c);
        softmax(c);
        argmax(c);
        same_bits_for_any_threads(kernels);
        std::printf("%s\n", kernels->name);
    }
    return kc_test::check_result();
}
