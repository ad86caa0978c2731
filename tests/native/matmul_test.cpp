// matmul and embed: every type of weights and instruction set against double precision, and the same bits whatever the
// threads, the batch and the tiles.
#include "cpu/kernels/matmul.h"

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

const char* type_name(int32_t type) {
    switch (type) {
        case KC_TYPE_F32:
            return "F32";
        case KC_TYPE_F16:
            return "F16";
        case KC_TYPE_BF16:
            return "BF16";
        case KC_TYPE_Q8_0:
            return "Q8_0";
        case KC_TYPE_Q4_0:
            return "Q4_0";
        default:
            return "Q4_1";
    }
}

const std::vector<int32_t> kFloatTypes = {KC_TYPE_F32, KC_TYPE_F16, KC_TYPE_BF16};
const std::vector<int32_t> kBlockTypes = {KC_TYPE_Q8_0, KC_TYPE_Q4_0, KC_TYPE_Q4_1};

// f16 by its definition.
double half_value(uint16_t h) {
    const int exponent = h >> 10 & 31;
    const double mantissa = h & 1023;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    return h & 0x8000 ? -magnitude : magnitude;
}

// Random weights in a file's layout, at an odd address, and what they mean in double precision.
struct Weights {
    Weights(int32_t type, int64_t n_rows, int64_t n_cols, unsigned seed) : type(type), n_rows(n_rows), n_cols(n_cols) {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal;
        const auto byte = [&] { return static_cast<uint8_t>(random()); };
        // Positive or negative, of size about 1/512, now and then subnormal.
        const auto half = [&] {
            const uint32_t bits = random();
            const uint32_t exponent = bits % 37 == 0 ? 0 : 5 + (bits >> 8) % 3;
            return static_cast<uint16_t>((bits & 0x8000) | exponent << 10 | (bits >> 16 & 1023));
        };
        storage.push_back(0);
        const auto push = [&](const void* p, size_t n) {
            storage.insert(storage.end(), static_cast<const uint8_t*>(p), static_cast<const uint8_t*>(p) + n);
        };
        for (int64_t r = 0; r < n_rows; ++r) {
            for (int64_t c = 0; c < n_cols;) {
                if (type == KC_TYPE_F32) {
                    const float f = normal(random);
                    push(&f, 4);
                    values.push_back(f);
                    ++c;
                } else if (type == KC_TYPE_F16) {
                    const uint16_t h = half();
                    push(&h, 2);
                    values.push_back(half_value(h));
                    ++c;
                } else if (type == KC_TYPE_BF16) {
                    float f = normal(random);
                    uint32_t bits;
                    std::memcpy(&bits, &f, 4);
                    const uint16_t h = static_cast<uint16_t>(bits >> 16);
                    push(&h, 2);
                    bits = static_cast<uint32_t>(h) << 16;
                    std::memcpy(&f, &bits, 4);
                    values.push_back(f);
                    ++c;
                } else {
                    const uint16_t scale = half(), minimum = half();
                    push(&scale, 2);
                    if (type == KC_TYPE_Q4_1) push(&minimum, 2);
                    uint8_t bytes[32];
                    const int n = type == KC_TYPE_Q8_0 ? 32 : 16;
                    for (int i = 0; i < n; ++i) bytes[i] = byte();
                    if (random() % 4 == 0) bytes[random() % static_cast<unsigned>(n)] = 0x80;  // -128 is legal
                    push(bytes, static_cast<size_t>(n));
                    for (int i = 0; i < 32; ++i) {
                        const int nibble = i < 16 ? bytes[i % 16] & 15 : bytes[i % 16] >> 4;
                        const double level = type == KC_TYPE_Q8_0   ? static_cast<int8_t>(bytes[i])
                                             : type == KC_TYPE_Q4_0 ? nibble - 8
                                                                    : nibble;
                        values.push_back(half_value(scale) * level + (type == KC_TYPE_Q4_1 ? half_value(minimum) : 0));
                    }
                    c += 32;
                }
            }
        }
    }

    kc_matrix matrix() const { return {storage.data() + 1, n_rows, n_cols, type, 0}; }

    int32_t type;
    int64_t n_rows;
    int64_t n_cols;
    std::vector<uint8_t> storage;
    std::vector<double> values;
};

std::vector<float> random_floats(int64_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> v(static_cast<size_t>(n));
    for (float& f : v) f = normal(random);
    return v;
}

// One call with one matrix; out rows adjacent.
std::vector<float> multiply(CpuContext& context, const Weights& weights, const float* x, int64_t n_tokens) {
    std::vector<float> out(static_cast<size_t>(n_tokens * weights.n_rows), std::nanf(""));
    kc_matmul_params params = {};
    params.n_outputs = 1;
    params.x = x;
    params.n_tokens = n_tokens;
    params.n_cols = weights.n_cols;
    params.outputs[0].weight = weights.matrix();
    params.outputs[0].out = out.data();
    kc::matmul(context, params);
    return out;
}

bool same_bits(const float* a, const float* b, size_t n) { return std::memcmp(a, b, n * sizeof(float)) == 0; }

// Against double precision, in poisoned surroundings, with strides, bias and accumulation in all combinations.
void against_reference(const kc::Kernels* kernels, int32_t activations) {
    CpuContext context(2, activations);
    context.kernels = kernels;
    std::vector<int32_t> types = kBlockTypes;
    if (activations == KC_ACTIVATIONS_F32) types.insert(types.end(), kFloatTypes.begin(), kFloatTypes.end());
    unsigned seed = 1;
    for (const int32_t type : types) {
        const bool blocks = type != KC_TYPE_F32 && type != KC_TYPE_F16 && type != KC_TYPE_BF16;
        for (int64_t size = 1; size <= 70; size += size < 20 ? 1 : 7) {
            const int64_t n_cols = blocks ? 32 * (size % 9 + 1) : size;
            for (const int64_t n_tokens : {int64_t{1}, int64_t{2}, int64_t{3}, size % 23 + 4}) {
                // Also so many that the streams of a single token are long.
                const int64_t n_rows = (size * 5 + n_tokens) % 70 + 1 + (size % 6 == 0 ? 300 : 0);
                const bool bias = seed & 1, accumulate = seed & 2;
                const int64_t x_stride = n_cols + (seed & 4 ? 3 : 0), out_stride = n_rows + (seed & 8 ? 5 : 0);
                const Weights weights(type, n_rows, n_cols, seed);
                GuardedFloats x(n_tokens * x_stride, std::nanf(""), 1);
                GuardedFloats out(n_tokens * out_stride, std::nanf(""), 1);
                GuardedFloats biases(n_rows, 0, 1);
                const std::vector<float> values = random_floats(n_tokens * (n_cols + n_rows) + n_rows, seed + 1000);
                const float* next = values.data();
                for (int64_t t = 0; t < n_tokens; ++t) {
                    for (int64_t c = 0; c < n_cols; ++c) x[t * x_stride + c] = *next++;
                }
                std::vector<double> before(static_cast<size_t>(n_tokens * n_rows));
                for (int64_t t = 0; t < n_tokens; ++t) {
                    for (int64_t r = 0; r < n_rows; ++r) {
                        if (accumulate) before[static_cast<size_t>(t * n_rows + r)] = out[t * out_stride + r] = *next++;
                    }
                }
                for (int64_t r = 0; r < n_rows; ++r) biases[r] = *next++;

                kc_matmul_params params = {};
                params.n_outputs = 1;
                params.x = x.data();
                params.n_tokens = n_tokens;
                params.n_cols = n_cols;
                params.x_stride = x_stride;
                params.outputs[0] = {
                    weights.matrix(), bias ? biases.data() : nullptr, out.data(), out_stride, accumulate, 0};
                kc::matmul(context, params);

                const std::string what = std::string(kernels->name) + " " + type_name(type) +
                                         (activations == KC_ACTIVATIONS_F32 ? " f32 " : " q8 ") +
                                         std::to_string(n_tokens) + "x" + std::to_string(n_rows) + "x" +
                                         std::to_string(n_cols);
                for (int64_t t = 0; t < n_tokens; ++t) {
                    // In 8 bits an element is off by at most half a step, a step being a 127th of its block's largest.
                    std::vector<double> steps(static_cast<size_t>(n_cols));
                    if (activations == KC_ACTIVATIONS_Q8) {
                        for (int64_t c = 0; c < n_cols; ++c) {
                            double most = 0;
                            for (int64_t i = c / 32 * 32; i < c / 32 * 32 + 32; ++i) {
                                most = std::max(most, std::fabs(static_cast<double>(x[t * x_stride + i])));
                            }
                            steps[static_cast<size_t>(c)] = most / 127;
                        }
                    }
                    for (int64_t r = 0; r < n_rows; ++r) {
                        const double old = before[static_cast<size_t>(t * n_rows + r)], added = bias ? biases[r] : 0;
                        double sum = old + added, magnitude = std::fabs(old) + std::fabs(added), quantisation = 0;
                        for (int64_t c = 0; c < n_cols; ++c) {
                            const double w = weights.values[static_cast<size_t>(r * n_cols + c)];
                            sum += w * x[t * x_stride + c];
                            magnitude += std::fabs(w * x[t * x_stride + c]);
                            quantisation += std::fabs(w) * steps[static_cast<size_t>(c)] * 0.5001;
                        }
                        const double error = std::fabs(out[t * out_stride + r] - sum);
                        CHECK(error <= 1e-6 * magnitude + quantisation, what << " token " << t << " row " << r << ": "
                                                                             << out[t * out_stride + r] << " is not "
                                                                             << sum);
                    }
                }
                CHECK(out.margins_intact() && x.margins_intact() && biases.margins_intact(), what << " wrote outside");
                for (int64_t t = 0; t < n_tokens; ++t) {
                    for (int64_t i = n_rows; i < out_stride; ++i)
                        CHECK(std::isnan(out[t * out_stride + i]), what << " wrote between rows");
                }
                ++seed;
            }
        }
    }
}

// In 8 bits the result is known but for the rounding of float sums: quantise by the rule, multiply in double.
void bytes_are_exact(const kc::Kernels* kernels) {
    CpuContext context(1);
    context.kernels = kernels;
    for (const int32_t type : kBlockTypes) {
        for (const int64_t n_tokens : {1, 9}) {
            const int64_t n_rows = 19, n_cols = 320;
            const Weights weights(type, n_rows, n_cols, 5);
            const std::vector<float> x = random_floats(n_tokens * n_cols, 6);
            const std::vector<float> out = multiply(context, weights, x.data(), n_tokens);
            for (int64_t t = 0; t < n_tokens; ++t) {
                for (int64_t r = 0; r < n_rows; ++r) {
                    double sum = 0, magnitude = 0;
                    for (int64_t c = 0; c < n_cols; ++c) {
                        float most = 0;
                        for (int64_t i = c / 32 * 32; i < c / 32 * 32 + 32; ++i)
                            most = std::max(most, std::fabs(x[static_cast<size_t>(t * n_cols + i)]));
                        const float level = std::nearbyint(x[static_cast<size_t>(t * n_cols + c)] * (127.f / most));
                        const double term = static_cast<double>(level) * static_cast<double>(most / 127.f) *
                                            weights.values[static_cast<size_t>(r * n_cols + c)];
                        sum += term;
                        magnitude += std::fabs(term);
                    }
                    const float got = out[static_cast<size_t>(t * n_rows + r)];
                    CHECK(std::fabs(got - sum) <= 1e-6 * magnitude, kernels->name << " " << type_name(type) << " token "
                                                                                  << t << " row " << r << ": " << got
                                                                                  << " is not " << sum);
                }
            }
        }
    }
}

// The bits of a row of out depend on its row of x alone.
void same_bits_everywhere(const kc::Kernels* kernels, int32_t activations) {
    std::vector<int32_t> types = kBlockTypes;
    if (activations == KC_ACTIVATIONS_F32) types.insert(types.end(), kFloatTypes.begin(), kFloatTypes.end());
    for (const int32_t type : types) {
        const bool blocks = type != KC_TYPE_F32 && type != KC_TYPE_F16 && type != KC_TYPE_BF16;
        const int64_t n_tokens = 70, n_rows = 43, n_cols = blocks ? 288 : 283;
        const Weights weights(type, n_rows, n_cols, 11);
        const Weights second(type, 13, n_cols, 12);
        const std::vector<float> x = random_floats(n_tokens * n_cols, 13);
        CpuContext one(1, activations);
        one.kernels = kernels;
        std::vector<float> expected;
        for (int64_t t = 0; t < n_tokens; ++t) {
            const std::vector<float> row = multiply(one, weights, x.data() + t * n_cols, 1);
            expected.insert(expected.end(), row.begin(), row.end());
        }
        for (const int n_threads : {1, 2, 3, 7}) {
            CpuContext context(n_threads, activations);
            context.kernels = kernels;
            for (const int64_t batch : {1, 2, 3, 4, 5, 6, 8, 11, 31, 70}) {
                bool same = true;
                for (int64_t t = 0; t < n_tokens && (batch > 2 || t < 20); t += batch) {
                    const int64_t n = std::min(batch, n_tokens - t);
                    const std::vector<float> rows = multiply(context, weights, x.data() + t * n_cols, n);
                    same = same && same_bits(rows.data(), expected.data() + t * n_rows, rows.size());
                }
                CHECK(same,
                      kernels->name << " " << type_name(type) << ", " << n_threads << " threads, batches of " << batch);
            }
            // Beside other matrices of the same call.
            std::vector<float> out(static_cast<size_t>(9 * n_rows)), other(9 * 13);
            kc_matmul_params params = {};
            params.n_outputs = 3;
            params.x = x.data();
            params.n_tokens = 9;
            params.n_cols = n_cols;
            std::vector<float> again(out.size());
            params.outputs[0] = {second.matrix(), nullptr, other.data(), 0, 0, 0};
            params.outputs[1] = {weights.matrix(), nullptr, out.data(), 0, 0, 0};
            params.outputs[2] = {weights.matrix(), nullptr, again.data(), 0, 0, 0};
            kc::matmul(context, params);
            CHECK(same_bits(out.data(), expected.data(), out.size()),
                  kernels->name << " " << type_name(type) << " beside others");
            CHECK(same_bits(again.data(), expected.data(), out.size()),
                  kernels->name << " " << type_name(type) << " beside others");
            CHECK(same_bits(other.data(), multiply(one, second, x.data(), 9).data(), other.size()), "the others");
        }
    }
}

// Matrices of different types share x.
void mixed_types(const kc::Kernels* kernels) {
    const int64_t n_cols = 96, n_tokens = 5;
    const std::vector<float> x = random_floats(n_tokens * n_cols, 21);
    CpuContext context(3);
    context.kernels = kernels;
    std::vector<Weights> weights;
    std::vector<std::vector<float>> out;
    for (const int32_t type : {KC_TYPE_Q8_0, KC_TYPE_F16, KC_TYPE_Q4_1, KC_TYPE_F32}) {
        weights.emplace_back(type, 10 + type, n_cols, 22 + static_cast<unsigned>(type));
        out.emplace_back(static_cast<size_t>(n_tokens * (10 + type)));
    }
    kc_matmul_params params = {};
    params.n_outputs = 4;
    params.x = x.data();
    params.n_tokens = n_tokens;
    params.n_cols = n_cols;
    for (size_t i = 0; i < 4; ++i) params.outputs[i] = {weights[i].matrix(), nullptr, out[i].data(), 0, 0, 0};
    kc::matmul(context, params);
    for (size_t i = 0; i < 4; ++i) {
        const std::vector<float> alone = multiply(context, weights[i], x.data(), n_tokens);
        CHECK(same_bits(alone.data(), out[i].data(), alone.size()), kernels->name << " " << type_name(weights[i].type));
    }
}

// A NaN or an infinity of x reaches every output of its token and none of the others; tiny and zero blocks stay finite.
void poisoned_tokens(const kc::Kernels* kernels) {
    for (const int32_t activations : {KC_ACTIVATIONS_Q8, KC_ACTIVATIONS_F32}) {
        CpuContext context(2, activations);
        context.kernels = kernels;
        for (const float poison : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
            const int64_t n_cols = 64, n_tokens = 9;
            const Weights weights(KC_TYPE_Q8_0, 11, n_cols, 31);
            std::vector<float> x = random_floats(n_tokens * n_cols, 32);
            const std::vector<float> clean = multiply(context, weights, x.data(), n_tokens);
            x[3 * n_cols + 40] = poison;
            const std::vector<float> out = multiply(context, weights, x.data(), n_tokens);
            for (size_t i = 0; i < out.size(); ++i) {
                if (i / 11 == 3) {
                    CHECK(!std::isfinite(out[i]), kernels->name << " activations " << activations << ": " << out[i]);
                } else {
                    CHECK(same_bits(&out[i], &clean[i], 1), kernels->name << " token " << i / 11);
                }
            }
        }
        const Weights weights(KC_TYPE_Q4_1, 8, 64, 33);
        std::vector<float> x(64, 1e-40f);
        for (int i = 0; i < 32; ++i) x[static_cast<size_t>(i)] = 0;
        for (const float f : multiply(context, weights, x.data(), 1))
            CHECK(std::fabs(f) < 1e-30f, kernels->name << " " << f);
    }
}

void embed_rows(const kc::Kernels* kernels) {
    CpuContext context(2);
    context.kernels = kernels;
    std::vector<int32_t> types = kBlockTypes;
    types.insert(types.end(), kFloatTypes.begin(), kFloatTypes.end());
    for (const int32_t type : types) {
        for (const int64_t n_cols : {32, 64, 96, 37, 5, 1}) {
            if (n_cols % 32 != 0 && type != KC_TYPE_F32 && type != KC_TYPE_F16 && type != KC_TYPE_BF16) continue;
            const Weights weights(type, 50, n_cols, 41);
            const std::vector<int32_t> ids = {49, 0, 7, 7, 31};
            GuardedFloats out(5 * n_cols);
            kc::embed(context, weights.matrix(), ids.data(), 5, out.data());
            for (int64_t t = 0; t < 5; ++t) {
                for (int64_t c = 0; c < n_cols; ++c) {
                    const double expected =
                        weights.values[static_cast<size_t>(ids[static_cast<size_t>(t)] * n_cols + c)];
                    CHECK(out[t * n_cols + c] == static_cast<float>(expected),
                          kernels->name << " " << type_name(type) << " " << n_cols);
                }
            }
            CHECK(out.margins_intact(), kernels->name << " " << type_name(type));
            GuardedFloats rows(3 * n_cols);
            kc::matrix_expand(context, weights.matrix(), 47, 3, rows.data());
            for (int64_t i = 0; i < 3 * n_cols; ++i) {
                CHECK(rows[i] == static_cast<float>(weights.values[static_cast<size_t>(47 * n_cols + i)]),
                      kernels->name << " " << type_name(type) << " " << n_cols);
            }
            CHECK(rows.margins_intact(), kernels->name << " " << type_name(type));
        }
    }
}

// All 65536 numbers of F16, infinities and NaN included, mean what they should.
void every_half(const kc::Kernels* kernels) {
    CpuContext context(1);
    context.kernels = kernels;
    std::vector<uint16_t> halves(65536);
    for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
    const kc_matrix table = {halves.data(), 1, 65536, KC_TYPE_F16, 0};
    const int32_t id = 0;
    std::vector<float> out(65536);
    kc::embed(context, table, &id, 1, out.data());
    for (size_t i = 0; i < halves.size(); ++i) {
        const bool special = (i & 0x7c00) == 0x7c00;
        const bool good = !special          ? static_cast<double>(out[i]) == half_value(halves[i])
                          : (i & 1023) != 0 ? std::isnan(out[i])
                                            : out[i] == (i & 0x8000 ? -HUGE_VALF : HUGE_VALF);
        CHECK(good && (std::isnan(out[i]) || std::signbit(out[i]) == ((i & 0x8000) != 0)),
              kernels->name << " half " << i << ": " << out[i]);
    }
}

// Steady calls allocate nothing, and a reserved context allocates nothing at all.
void scratch_is_reserved() {
    for (const int32_t activations : {KC_ACTIVATIONS_Q8, KC_ACTIVATIONS_F32}) {
        CpuContext context(2, activations);
        kc::matmul_reserve(context, 40, 96);
        const uint64_t n_allocations = context.scratch.n_allocations();
        for (const int32_t type : {KC_TYPE_Q8_0, KC_TYPE_F32}) {
            for (const int64_t n_tokens : {1, 40, 7}) {
                for (const int64_t n_cols : {32, 96}) {
                    const Weights weights(type, 20, n_cols, 51);
                    multiply(context, weights, random_floats(n_tokens * n_cols, 52).data(), n_tokens);
                }
            }
        }
        CHECK(context.scratch.n_allocations() == n_allocations, context.scratch.n_allocations());
    }
}

}  // namespace

int main() {
    for (const kc::Kernels* kernels : kc_test::all_kernels()) {
        std::printf("%s\n", kernels->name);
        for (const int32_t activations : {KC_ACTIVATIONS_Q8, KC_ACTIVATIONS_F32}) {
            against_reference(kernels, activations);
            same_bits_everywhere(kernels, activations);
        }
        bytes_are_exact(kernels);
        mixed_types(kernels);
        poisoned_tokens(kernels);
        embed_rows(kernels);
        every_half(kernels);
    }
    scratch_is_reserved();
    return kc_test::check_result();
}
