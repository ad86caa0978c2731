// The operators of a model on the simulated device, against double precision: awkward sizes, unaligned weights, every
// type.
#include <algorithm>
#include <cmath>
#include <random>

#include "cache_harness.h"

using namespace harness;

namespace {

std::mt19937 generator(7);

std::vector<float> normal(size_t n) {
    std::normal_distribution<float> distribution;
    std::vector<float> x(n);
    for (float& f : x) f = distribution(generator);
    return x;
}

void expect_near(const std::vector<float>& out, const std::vector<double>& expected, double tolerance,
                 const std::string& what) {
    double worst = 0;
    for (size_t i = 0; i < out.size(); ++i)
        worst = std::max(worst, std::isfinite(out[i]) ? std::abs(out[i] - expected[i]) : 1e30);
    CHECK(worst <= tolerance && out.size() == expected.size(), what << ": off by " << worst);
}

std::vector<float> read(const Rows& rows, size_t n) {
    std::vector<float> out(n);
    rows.read(out);
    return out;
}

void rms_norm(const Context& context) {
    for (const int dim : {1, 31, 256, 577}) {
        const auto x = normal(size_t(3 * dim)), w = normal(size_t(dim));
        const Rows dx(context, x), dw(context, w);
        must(kc_rms_norm(context.handle, dx.data(), dw.data(), 3, dim, 1e-5f, dx.data()), "kc_rms_norm");
        std::vector<double> expected(x.size());
        for (int t = 0; t < 3; ++t) {
            double squares = 0;
            for (int i = 0; i < dim; ++i) squares += double(x[size_t(t * dim + i)]) * x[size_t(t * dim + i)];
            for (int i = 0; i < dim; ++i)
                expected[size_t(t * dim + i)] = x[size_t(t * dim + i)] / std::sqrt(squares / dim + 1e-5) * w[size_t(i)];
        }
        expect_near(read(dx, x.size()), expected, 1e-5, "rms_norm of " + std::to_string(dim));
    }
}

void rope(const Context& context) {
    constexpr int n_tokens = 3, n_heads = 2, head_dim = 10, n_pairs = 4;
    const int32_t positions[n_tokens] = {0, 7, 100000};
    const std::vector<float> inv_freq = {1.f, 0.31f, 0.01f, 1e-4f};
    kc_buffer* where = nullptr;
    must(kc_buffer_create(context.handle, sizeof positions, &where), "kc_buffer_create");
    must(kc_buffer_write(where, 0, positions, sizeof positions), "kc_buffer_write");
    for (const int32_t pairing : {KC_ROPE_INTERLEAVED, KC_ROPE_HALVES}) {
        const auto x = normal(n_tokens * n_heads * head_dim);
        const Rows dx(context, x), freq(context, inv_freq), table(context, std::vector<float>(n_tokens * n_pairs * 2));
        must(kc_rope_table(context.handle, static_cast<int32_t*>(kc_buffer_data(where)), freq.data(), n_tokens, n_pairs,
                           1.f, table.data()),
             "kc_rope_table");
        must(kc_rope(context.handle, table.data(), n_tokens, n_heads, head_dim, n_pairs, pairing, dx.data()),
             "kc_rope");
        std::vector<double> expected(x.begin(), x.end());
        for (int row = 0; row < n_tokens * n_heads; ++row) {
            for (int p = 0; p < n_pairs; ++p) {
                const double angle = double(positions[row / n_heads]) * double(inv_freq[size_t(p)]);
                const size_t a = size_t(row * head_dim + (pairing == KC_ROPE_INTERLEAVED ? 2 * p : p));
                const size_t b = pairing == KC_ROPE_INTERLEAVED ? a + 1 : a + n_pairs;
                expected[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
                expected[b] = x[a] * std::sin(angle) + x[b] * std::cos(angle);
            }
        }
        expect_near(read(dx, x.size()), expected, 1e-5, "rope");
    }
    kc_buffer_destroy(where);
}

void pointwise(const Context& context) {
    const auto a = normal(1001), b = normal(1001);
    const Rows da(context, a), db(context, b), sum(context, a);
    must(kc_add(context.handle, da.data(), db.data(), 1001, sum.data()), "kc_add");
    must(kc_swiglu(context.handle, da.data(), db.data(), 1001, da.data()), "kc_swiglu");
    std::vector<double> gated(a.size()), added(a.size());
    for (size_t i = 0; i < a.size(); ++i)
        gated[i] = a[i] / (1 + std::exp(-double(a[i]))) * b[i], added[i] = double(a[i]) + b[i];
    expect_near(read(da, a.size()), gated, 1e-5, "swiglu");
    expect_near(read(sum, a.size()), added, 1e-6, "add");
}

void rows_of_numbers(const Context& context) {
    constexpr int n = 777;
    auto x = normal(4 * n);
    x[n + 5] = NAN;
    x[2 * n + 3] = x[2 * n + 600] = 9.f;  // a tie
    std::fill(x.begin() + 3 * n, x.end(), -INFINITY);
    x[3 * n + 70] = -5.f;
    const Rows dx(context, x), best(context, std::vector<float>(4));
    must(kc_argmax(context.handle, dx.data(), 4, n, reinterpret_cast<int32_t*>(best.data())), "kc_argmax");
    int32_t found[4];
    must(kc_buffer_read(best.buffer, 0, found, sizeof found), "kc_buffer_read");
    for (int r = 0; r < 4; ++r) {
        int expected = 0;
        float largest = -INFINITY;
        for (int i = 0; i < n; ++i) {
            if (x[size_t(r * n + i)] > largest) largest = x[size_t(r * n + i)], expected = i;
        }
        CHECK(found[r] == expected, "argmax of row " << r << ": " << found[r] << ", not " << expected);
    }
    must(kc_softmax(context.handle, dx.data(), 1, n, dx.data()), "kc_softmax");
    std::vector<double> expected(n);
    double sum = 0;
    for (int i = 0; i < n; ++i) sum += expected[size_t(i)] = std::exp(double(x[size_t(i)]));
    for (double& e : expected) e /= sum;
    expect_near(read(dx, n), expected, 1e-6, "softmax");
}

// A row of weights in a type's own bytes, and as numbers.
struct Weights {
    std::vector<uint8_t> bytes;
    std::vector<double> values;
};

uint16_t half_bits(float x) {  // of small numbers that a half holds exactly
    int exponent;
    const float mantissa = std::frexp(std::fabs(x), &exponent);
    if (x == 0) return 0;
    return static_cast<uint16_t>((x < 0 ? 0x8000 : 0) | (exponent + 14) << 10 |
                                 (static_cast<int>(mantissa * 2048) & 0x3ff));
}

Weights make_weights(int32_t type, int n_rows, int n_cols) {
    Weights w;
    const auto put = [&](const void* data, size_t n) {
        w.bytes.insert(w.bytes.end(), static_cast<const uint8_t*>(data), static_cast<const uint8_t*>(data) + n);
    };
    std::uniform_int_distribution<int> byte(-127, 127), nibble(0, 15), small(1, 63);
    for (int r = 0; r < n_rows; ++r) {
        if (type == KC_TYPE_F32 || type == KC_TYPE_F16 || type == KC_TYPE_BF16) {
            for (int c = 0; c < n_cols; ++c) {
                const float x = static_cast<float>(byte(generator)) / 64.f;
                uint32_t bits;
                std::memcpy(&bits, &x, 4);
                const uint16_t half = half_bits(x), bfloat = static_cast<uint16_t>(bits >> 16);
                if (type == KC_TYPE_F32)
                    put(&x, 4);
                else
                    put(type == KC_TYPE_F16 ? &half : &bfloat, 2);
                w.values.push_back(x);
            }
            continue;
        }
        for (int b = 0; b < n_cols / 32; ++b) {
            const float scale = static_cast<float>(small(generator)) / 1024.f,
                        minimum = type == KC_TYPE_Q4_1 ? -static_cast<float>(small(generator)) / 256.f : 0.f;
            const uint16_t scale_bits = half_bits(scale), minimum_bits = half_bits(minimum);
            put(&scale_bits, 2);
            if (type == KC_TYPE_Q4_1) put(&minimum_bits, 2);
            int levels[32];
            for (int& level : levels) level = type == KC_TYPE_Q8_0 ? byte(generator) : nibble(generator);
            for (int i = 0; i < 32 && type == KC_TYPE_Q8_0; ++i) put(&levels[i], 1);
            for (int i = 0; i < 16 && type != KC_TYPE_Q8_0; ++i) {
                const auto packed = static_cast<uint8_t>(levels[i] | levels[i + 16] << 4);
                put(&packed, 1);
            }
            for (const int level : levels)
                w.values.push_back(double(scale) * (type == KC_TYPE_Q4_0 ? level - 8 : level) + double(minimum));
        }
    }
    return w;
}

// x as matmul sees it in 8 bits: the largest of a block of 32 becomes 127.
std::vector<double> in_bytes(const std::vector<float>& x) {
    std::vector<double> seen(x.size());
    for (size_t block = 0; block < x.size(); block += 32) {
        float most = 0;
        for (size_t i = block; i < block + 32; ++i) most = std::max(most, std::fabs(x[i]));
        for (size_t i = block; i < block + 32; ++i)
            seen[i] = double(std::rint(x[i] * (127.f / most))) * double(most / 127.f);
    }
    return seen;
}

void matmul(int32_t activations) {
    kc_context_desc desc = {};
    desc.size = sizeof desc;
    desc.backend = tested_backend();
    desc.activations = activations;
    Context context;
    must(kc_context_destroy(context.handle), "kc_context_destroy");
    must(kc_context_create(&desc, &context.handle), "kc_context_create");
    for (const int32_t type : {KC_TYPE_F32, KC_TYPE_F16, KC_TYPE_BF16, KC_TYPE_Q8_0, KC_TYPE_Q4_0, KC_TYPE_Q4_1}) {
        const bool blocked = type == KC_TYPE_Q8_0 || type == KC_TYPE_Q4_0 || type == KC_TYPE_Q4_1;
        const int n_rows = 7, n_cols = blocked ? 96 : 77;
        const Weights w = make_weights(type, n_rows, n_cols);
        kc_buffer* weights = nullptr;  // at an odd address: a mapped file gives no alignment
        must(kc_buffer_create(context.handle, w.bytes.size() + 1, &weights), "kc_buffer_create");
        must(kc_buffer_write(weights, 1, w.bytes.data(), w.bytes.size()), "kc_buffer_write");
        const uint8_t* address = static_cast<uint8_t*>(kc_buffer_data(weights)) + 1;
        for (const int n_tokens : {1, 8, 11}) {
            const auto x = normal(size_t(n_tokens * n_cols)), before = normal(size_t(n_tokens * n_rows)),
                       bias = normal(size_t(n_rows));
            const Rows dx(context, x), out(context, before), db(context, bias);
            kc_matmul_params params = {};
            params.size = sizeof params;
            params.n_outputs = 1;
            params.x = dx.data();
            params.n_tokens = n_tokens;
            params.n_cols = n_cols;
            params.outputs[0].weight = {address, n_rows, n_cols, type, 0};
            params.outputs[0].bias = db.data();
            params.outputs[0].out = out.data();
            params.outputs[0].accumulate = 1;
            must(kc_matmul(context.handle, &params), "kc_matmul");
            std::vector<double> expected(before.begin(), before.end());
            const std::vector<double> seen =
                blocked && activations == KC_ACTIVATIONS_Q8 ? in_bytes(x) : std::vector<double>(x.begin(), x.end());
            for (int t = 0; t < n_tokens; ++t) {
                for (int r = 0; r < n_rows; ++r) {
                    double sum = bias[size_t(r)];
                    for (int c = 0; c < n_cols; ++c)
                        sum += seen[size_t(t * n_cols + c)] * w.values[size_t(r * n_cols + c)];
                    expected[size_t(t * n_rows + r)] += sum;
                }
            }
            expect_near(read(out, before.size()), expected, 1e-4,
                        "matmul of type " + std::to_string(type) + ", " + std::to_string(n_tokens) + " tokens");
        }
        // A row of the table, and one that is not there.
        const int32_t ids[2] = {5, 0};
        kc_buffer* which = nullptr;
        must(kc_buffer_create(context.handle, sizeof ids, &which), "kc_buffer_create");
        must(kc_buffer_write(which, 0, ids, sizeof ids), "kc_buffer_write");
        const Rows rows(context, std::vector<float>(size_t(2 * n_cols)));
        const kc_matrix table = {address, n_rows, n_cols, type, 0};
        must(kc_embed(context.handle, &table, static_cast<int32_t*>(kc_buffer_data(which)), 2, rows.data()),
             "kc_embed");
        std::vector<double> expected(w.values.begin() + 5 * n_cols, w.values.begin() + 6 * n_cols);
        expected.insert(expected.end(), w.values.begin(), w.values.begin() + n_cols);
        expect_near(read(rows, expected.size()), expected, 1e-6, "embed");
        must(kc_matrix_expand(context.handle, &table, 5, 1, rows.data()), "kc_matrix_expand");
        must(kc_matrix_expand(context.handle, &table, 0, 1, rows.data() + n_cols), "kc_matrix_expand");
        expect_near(read(rows, expected.size()), expected, 1e-6, "matrix_expand");
        const int32_t outside = n_rows;
        must(kc_buffer_write(which, 0, &outside, sizeof outside), "kc_buffer_write");
        must(kc_embed(context.handle, &table, static_cast<int32_t*>(kc_buffer_data(which)), 1, rows.data()),
             "kc_embed");
        CHECK(kc_context_sync(context.handle) == KC_ERR_ARGUMENT, "an id outside the table shows at sync");
        CHECK(kc_context_sync(context.handle) == KC_OK, "and only once");
        kc_buffer_destroy(which);
        kc_buffer_destroy(weights);
    }
}

}  // namespace

int main() {
    {
        const Context context;
        rms_norm(context);
        rope(context);
        pointwise(context);
        rows_of_numbers(context);
    }
    matmul(KC_ACTIVATIONS_Q8);
    matmul(KC_ACTIVATIONS_F32);
    return kc_test::check_result();
}
