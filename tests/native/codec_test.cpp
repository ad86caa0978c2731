// The codecs of coded rows: an orthogonal rotation, an error at right angles to the row, no bias in weighted sums (a
// scale of least squares has one, and is caught), packing at every token, rows that are zero, constant, huge, tiny, not
// finite.
#include "check.h"
#include "cpu/kernels/codes.h"
#include "cpu/kernels/half.h"
#include "decode_step.h"

namespace {

using namespace kc_test;

const int32_t kCodecs[] = {KC_CODEC_Q8, KC_CODEC_Q4, KC_CODEC_Q3, KC_CODEC_Q2};
const int kHeadDims[] = {16, 32, 48, 64, 80, 96, 128, 256};

double dot(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
}

std::vector<float> normal(std::mt19937& random, int n, float scale = 1.f) {
    std::normal_distribution<float> distribution(0.f, scale);
    std::vector<float> x(static_cast<size_t>(n));
    for (float& f : x) f = distribution(random);
    return x;
}

void rotation(const kc::Kernels* kernels) {
    std::mt19937 random(1);
    for (const int head_dim : kHeadDims) {
        const std::vector<float> a = normal(random, head_dim), b = normal(random, head_dim);
        std::vector<float> ra = a, rb = b;
        kernels->codec.rotate(ra.data(), head_dim);
        kernels->codec.rotate(rb.data(), head_dim);
        CHECK(std::abs(dot(a, b) - dot(ra, rb)) < 1e-4 * head_dim, head_dim << ": a product changed");
        CHECK(ra != a, head_dim << ": nothing was rotated");
        // One large number spreads over its whole block.
        std::vector<float> spike(static_cast<size_t>(head_dim), 0.f);
        spike[3] = 1.f;
        kernels->codec.rotate(spike.data(), head_dim);
        const int block = head_dim & -head_dim;
        for (int d = 0; d < block; ++d) {
            CHECK(std::abs(std::abs(spike[static_cast<size_t>(d)]) - 1 / std::sqrt(block)) < 1e-6,
                  head_dim << ", " << d);
        }
        kernels->codec.rotate_back(ra.data(), head_dim);
        for (size_t d = 0; d < a.size(); ++d) CHECK(std::abs(ra[d] - a[d]) < 2e-6, head_dim << ": not undone");
    }
}

struct Coded {
    std::vector<float> decoded;
    double scale;
};
Coded code(int32_t codec, const std::vector<float>& y, bool least_squares = false) {
    const int head_dim = static_cast<int>(y.size());
    std::vector<int8_t> numbers(y.size());
    Coded result;
    result.scale = kc::from_half(kc::quantize(codec, y.data(), head_dim, numbers.data()));
    if (least_squares) {
        double product = 0, squares = 0;
        for (size_t d = 0; d < y.size(); ++d) {
            product += static_cast<double>(y[d]) * numbers[d];
            squares += static_cast<double>(numbers[d]) * numbers[d];
        }
        result.scale = product / squares;
    }
    for (const int8_t number : numbers) result.decoded.push_back(static_cast<float>(number * result.scale));
    return result;
}

// Mean squared error of a unit Gaussian, by codec, and a bit more.
double distortion(int32_t codec) {
    return codec == KC_CODEC_Q2 ? 0.16 : codec == KC_CODEC_Q3 ? 0.05 : codec == KC_CODEC_Q4 ? 0.015 : 1e-4;
}

void right_angles() {
    std::mt19937 random(2);
    for (const int head_dim : kHeadDims) {
        for (const int32_t codec : kCodecs) {
            double error = 0, size = 0;
            for (int i = 0; i < 200; ++i) {
                const std::vector<float> y = normal(random, head_dim, std::exp(static_cast<float>(i % 9) - 4));
                const Coded coded = code(codec, y);
                std::vector<float> off(y.size());
                for (size_t d = 0; d < y.size(); ++d) off[d] = coded.decoded[d] - y[d];
                // A scale in f16 is off by at most 2^-11 of itself.
                if (codec != KC_CODEC_Q8)
                    CHECK(std::abs(dot(off, y)) <= 5.2e-4 * dot(y, y),
                          "codec " << codec << ", head_dim " << head_dim << ": " << dot(off, y) / dot(y, y));
                error += dot(off, off) / dot(y, y);
                size += 1;
            }
            CHECK(error / size < distortion(codec) * (head_dim < 64 ? 1.5 : 1),
                  "codec " << codec << ", head_dim " << head_dim << ": error " << error / size);
        }
    }
}

// Rows around a mean that the centre takes away but for what 64 rows leave of it, as in a cache.
struct Rows {
    std::mt19937 random;
    std::vector<float> mean, centre;
    const kc::Kernels* kernels;
    Rows(const kc::Kernels* with, int head_dim, unsigned seed) : random(seed), kernels(with) {
        mean = normal(random, head_dim, 2.f);
        centre.assign(mean.size(), 0.f);
        for (int i = 0; i < 64; ++i) {
            const std::vector<float> row = raw();
            for (size_t d = 0; d < row.size(); ++d) centre[d] += row[d] / 64;
        }
        kernels->codec.rotate(centre.data(), head_dim);
    }
    std::vector<float> raw() {
        std::vector<float> row = normal(random, static_cast<int>(mean.size()));
        for (size_t d = 0; d < row.size(); ++d) row[d] += mean[d];
        return row;
    }
    std::vector<float> next() {
        std::vector<float> row = raw();
        kernels->codec.rotate(row.data(), static_cast<int64_t>(row.size()));
        for (size_t d = 0; d < row.size(); ++d) row[d] -= centre[d];
        return row;
    }
};

// Weights that grow with the row's product with some query, so that the weighted sum is long and what a codec takes
// from every row adds up. How much of the sum is lost: as a share, and in standard deviations of what independent
// errors would make.
struct Bias {
    double deviations;
    double share;
};
Bias bias_of(const kc::Kernels* kernels, int32_t codec, int head_dim, bool least_squares) {
    Rows rows(kernels, head_dim, 3);
    std::vector<float> query = normal(rows.random, head_dim, 1.f / std::sqrt(static_cast<float>(head_dim)));
    kernels->codec.rotate(query.data(), head_dim);
    std::vector<double> sum(query.size()), error(query.size());
    double squares = 0, row_error = 0;
    const int n = 10000;
    for (int i = 0; i < n; ++i) {
        const std::vector<float> y = rows.next();
        const double w = std::exp(dot(y, query));
        const Coded coded = code(codec, y, least_squares);
        for (size_t d = 0; d < y.size(); ++d) {
            const double off = static_cast<double>(coded.decoded[d]) - y[d];
            sum[d] += w * y[d];
            error[d] += w * off;
            row_error += off * off / head_dim / n;
        }
        squares += w * w;
    }
    double along = 0, size = 0;
    for (size_t d = 0; d < sum.size(); ++d) {
        along += error[d] * sum[d];
        size += sum[d] * sum[d];
    }
    return {along / size / std::sqrt(row_error * squares / size), along / size};
}

void no_bias(const kc::Kernels* kernels) {
    for (const int head_dim : {64, 80, 128}) {
        for (const int32_t codec : {KC_CODEC_Q4, KC_CODEC_Q3, KC_CODEC_Q2}) {
            const Bias ours = bias_of(kernels, codec, head_dim, false);
            const Bias planted = bias_of(kernels, codec, head_dim, true);
            CHECK(std::abs(ours.deviations) < 4, "codec " << codec << ", head_dim " << head_dim << ": "
                                                          << ours.deviations << " deviations, share " << ours.share);
            CHECK(planted.deviations < -4, "codec " << codec << ", head_dim " << head_dim
                                                    << ": a scale of least squares passes, " << planted.deviations
                                                    << " deviations, share " << planted.share);
        }
    }
}

// The error of a mean over n rows falls like 1 / sqrt(n).
void errors_cancel(const kc::Kernels* kernels) {
    for (const int32_t codec : {KC_CODEC_Q4, KC_CODEC_Q3, KC_CODEC_Q2}) {
        Rows rows(kernels, 64, 4);
        double errors[3];
        int step = 0;
        for (const int n : {100, 1000, 10000}) {
            std::vector<double> error(64);
            for (int i = 0; i < n; ++i) {
                const std::vector<float> y = rows.next();
                const Coded coded = code(codec, y);
                for (size_t d = 0; d < 64; ++d) error[d] += (static_cast<double>(coded.decoded[d]) - y[d]) / n;
            }
            double size = 0;
            for (const double e : error) size += e * e;
            errors[step++] = std::sqrt(size);
        }
        for (int i = 0; i < 2; ++i) {
            const double ratio = errors[i] / errors[i + 1];
            CHECK(ratio > 1.8 && ratio < 5, "codec " << codec << ": ten times the rows divide the error by " << ratio
                                                     << " (" << errors[i] << ", " << errors[i + 1] << ")");
        }
    }
}

// Rows of a block are independent: storing one leaves the others, in whatever order; expanded levels are the stored
// ones.
void packing(const kc::Kernels* kernels) {
    std::mt19937 random(5);
    for (const int head_dim : kHeadDims) {
        for (const int32_t codec : kCodecs) {
            for (const bool is_v : {false, true}) {
                std::vector<uint8_t> block = poisoned(kc::block_bytes(codec, head_dim) + 64);
                std::vector<std::vector<int8_t>> rows(64);
                for (int t = 0; t < 64; ++t) {
                    const std::vector<float> y = normal(random, head_dim);
                    rows[static_cast<size_t>(t)].resize(y.size());
                    const uint16_t scale = kc::quantize(codec, y.data(), head_dim, rows[static_cast<size_t>(t)].data());
                    kc::store_row(codec, is_v, block.data(), t, head_dim, rows[static_cast<size_t>(t)].data(), scale);
                    for (int u = 0; u <= t; u += 1 + t / 8) {
                        std::vector<int8_t> row(y.size());
                        kc::load_row(codec, is_v, block.data(), u, head_dim, row.data());
                        CHECK(row == rows[static_cast<size_t>(u)],
                              "codec " << codec << ", row " << u << " of " << t + 1);
                    }
                }
                std::vector<float> all(static_cast<size_t>(64 * head_dim));
                kc::load_block(kernels->codec, codec, is_v, block.data(), head_dim, all.data());
                bool same = true;
                for (int t = 0; t < 64; ++t) {
                    for (int d = 0; d < head_dim; ++d) {
                        const size_t at = static_cast<size_t>(is_v ? t * head_dim + d : d * 64 + t);
                        same = same && all[at] == rows[static_cast<size_t>(t)][static_cast<size_t>(d)];
                    }
                }
                CHECK(same,
                      kernels->name << ": codec " << codec << ", head_dim " << head_dim << ", expanded block differs");
                for (size_t i = block.size() - 64; i < block.size(); ++i)
                    CHECK(block[i] == 0xff, "written behind the block");
            }
        }
    }
}

// Through kv_append and kv_decode: every codec, every length, extreme rows.
void rows_of_a_cache(const kc::Kernels* kernels) {
    for (const int32_t codec : kCodecs) {
        for (const int head_dim : {64, 80}) {
            TestContext context(kernels, 2);
            CacheCase cache({2, 2, head_dim, codec, codec}, 1, 5);
            cache.append_random(context.cpu, 0, 63);
            cache.append_random(context.cpu, 0, 1);
            cache.append_random(context.cpu, 0, 70);
            CHECK(cache.n_nonfinite == 0, cache.n_nonfinite);
            const size_t width = static_cast<size_t>(2 * head_dim);
            const auto append_row = [&](const std::vector<float>& row) { cache.append(context.cpu, 0, row, row); };
            const int first = cache.n_tokens(0);
            append_row(std::vector<float>(width, 0.f));
            append_row(std::vector<float>(width, 3.f));
            append_row(cache.normal(width, 20000.f / 4));
            append_row(cache.normal(width, 1e-5f));
            for (int is_v = 0; is_v < 2; ++is_v) {
                double all_off = 0, all_size = 0;
                for (int t = 0; t < cache.n_tokens(0); ++t) {
                    std::vector<float> out(static_cast<size_t>(head_dim), NAN);
                    kc::kv_decode(context.cpu, cache.layer, cache.sequences[0], is_v == 1, 1, t, 1, out.data());
                    const float* row = is_v == 1 ? cache.value(0, t, 1) : cache.key(0, t, 1);
                    double off = 0, size = 0;
                    for (int d = 0; d < head_dim; ++d) {
                        off += std::pow(static_cast<double>(out[static_cast<size_t>(d)]) - row[d], 2);
                        size += std::pow(row[d], 2);
                    }
                    // A coordinate far beyond the largest level is cut off: one row may be off by several times what
                    // rows are off by on average.
                    const double bound = t < 64 ? 1e-6 : 10 * distortion(codec);
                    CHECK(off <= bound * (size + head_dim * 0.02), kernels->name << ": codec " << codec << ", token "
                                                                                 << t << " is off by " << std::sqrt(off)
                                                                                 << " of " << std::sqrt(size));
                    if (t < 64 || t >= first) continue;
                    all_off += off;
                    all_size += size;
                }
                // What is coded is the row less the mean of the first page, which is some tenth of a row long.
                CHECK(all_off <= 1.25 * distortion(codec) * (all_size + (first - 64) * head_dim * 0.02),
                      kernels->name << ": codec " << codec << ", rows are off by " << all_off / all_size
                                    << " of squares");
            }
            // Not finite: reported, and what is stored is finite.
            std::vector<float> bad(width, 1.f);
            bad[3] = NAN;
            append_row(bad);
            bad[3] = INFINITY;
            append_row(bad);
            bad[3] = 1e6f;
            append_row(bad);
            CHECK(cache.n_nonfinite == 6, cache.n_nonfinite << " rows of K and V in one head");
            for (int t = first + 4; t < first + 7; ++t) {
                std::vector<float> out(static_cast<size_t>(head_dim), NAN);
                kc::kv_decode(context.cpu, cache.layer, cache.sequences[0], true, 0, t, 1, out.data());
                for (const float x : out) CHECK(std::isfinite(x), "token " << t);
            }
        }
    }
}

// One f16 at a time, against the bodies that convert rows.
void halves(const kc::Kernels* kernels) {
    for (uint32_t h = 0; h < 0x7c00; ++h) {
        const uint16_t half[16] = {static_cast<uint16_t>(h)};
        float row[16];
        kernels->codec.from_f16(half, 16, row);
        CHECK(kc::from_half(half[0]) == row[0] && kc::to_half(row[0]) == h, h);
        const float above = std::nextafter(row[0], 1e9f) * 1.0003f;
        uint16_t rounded_row[16];
        float in[16] = {above};
        kernels->codec.to_f16(in, 16, rounded_row);
        CHECK(kc::to_half(above) == rounded_row[0], h);
    }
    CHECK(kc::to_half(1e30f) == 0x7bff, kc::to_half(1e30f));
}

}  // namespace

int main() {
    right_angles();
    for (const kc::Kernels* kernels : all_kernels()) {
        rotation(kernels);
        packing(kernels);
        rows_of_a_cache(kernels);
    }
    no_bias(all_kernels().back());
    errors_cancel(all_kernels().back());
    halves(all_kernels().back());
    return check_result();
}
