// kv_append: what every store holds behind an append, against the rows in double precision: all codecs, awkward head
// sizes and counts, any cut of a text, page borders, the first page and its centre, exact rows of each kind, numbers
// that are none, and memory that is not the append's own.
#include "check.h"
#include "cpu/kernels/half.h"
#include "decode_step.h"

namespace {

using namespace kc_test;

const int32_t kCodecs[] = {KC_CODEC_F16, KC_CODEC_Q8, KC_CODEC_Q4, KC_CODEC_Q3, KC_CODEC_Q2};
const int kHeadDims[] = {16, 48, 64, 80, 96, 128, 256};

// The integers that stand for a row at 4, 3 and 2 bits (a unit Gaussian's best levels), written down a second time.
std::vector<int> levels_of(int32_t codec) {
    if (codec == KC_CODEC_Q2) return {38, 127};
    if (codec == KC_CODEC_Q3) return {14, 45, 79, 127};
    return {6, 18, 31, 44, 58, 75, 96, 127};
}
double largest_level(int32_t codec) { return codec == KC_CODEC_Q4 ? 2.7326 : codec == KC_CODEC_Q3 ? 2.1520 : 1.5104; }

// The rotation as a matrix, column by column from the library: its own test says that it is orthogonal.
std::vector<double> rotation_of(const kc::Kernels* kernels, int head_dim) {
    std::vector<double> matrix(static_cast<size_t>(head_dim * head_dim));
    std::vector<float> unit(static_cast<size_t>(head_dim));
    for (int column = 0; column < head_dim; ++column) {
        std::fill(unit.begin(), unit.end(), 0.f);
        unit[static_cast<size_t>(column)] = 1.f;
        kernels->codec.rotate(unit.data(), head_dim);
        for (int row = 0; row < head_dim; ++row) {
            matrix[static_cast<size_t>(row * head_dim + column)] = unit[static_cast<size_t>(row)];
        }
    }
    return matrix;
}
std::vector<double> times(const std::vector<double>& matrix, const std::vector<double>& x, bool transposed) {
    const size_t n = x.size();
    std::vector<double> y(n);
    for (size_t r = 0; r < n; ++r) {
        for (size_t c = 0; c < n; ++c) y[transposed ? c : r] += matrix[r * n + c] * x[transposed ? r : c];
    }
    return y;
}

// What a codec makes of a row y that is rotated and centred. `close` is how far the library may be from it: for the
// level codecs a number next to a border between levels may fall on either side.
struct Expected {
    std::vector<double> y;
    double scale = 0;
};
Expected expected_code(int32_t codec, const std::vector<double>& y) {
    Expected code;
    if (codec == KC_CODEC_Q8) {
        double largest = 0;
        for (const double x : y) largest = std::max(largest, std::fabs(x));
        code.scale = kc::from_half(kc::to_half(static_cast<float>(largest / 127)));
        for (const double x : y) code.y.push_back(code.scale > 0 ? std::rint(x / code.scale) * code.scale : 0);
        return code;
    }
    double squares = 0, product = 0;
    for (const double x : y) squares += x * x;
    const double unit =
        squares > 0 ? 127 / largest_level(codec) / std::sqrt(squares / static_cast<double>(y.size())) : 0;
    const std::vector<int> levels = levels_of(codec);
    std::vector<double> numbers;
    for (const double x : y) {
        int best = levels[0];
        for (const int level : levels) {
            if (std::fabs(level - std::fabs(x * unit)) < std::fabs(best - std::fabs(x * unit))) best = level;
        }
        numbers.push_back(x < 0 ? -best : best);
        product += x * numbers.back();
    }
    code.scale = product > 0 ? squares / product : 0;
    for (const double number : numbers) code.y.push_back(number * code.scale);
    return code;
}

// Far above the mean error: a number beyond the largest level is cut off, which one row may suffer from more than
// others.
double largest_row_error(int32_t codec) {
    return codec == KC_CODEC_Q8 ? 3e-4 : codec == KC_CODEC_Q4 ? 0.15 : codec == KC_CODEC_Q3 ? 0.5 : 1.6;
}

double squared_distance(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}
double squared_length(const std::vector<double>& a) { return squared_distance(a, std::vector<double>(a.size(), 0)); }

std::vector<double> row_of(const kc::Kernels* kernels, const CacheCase& cache, int s, int token, int head, bool is_v) {
    const float* given = is_v ? cache.value(s, token, head) : cache.key(s, token, head);
    std::vector<double> row;
    for (int d = 0; d < cache.shape.head_dim; ++d) row.push_back(rounded(kernels, given[d]));
    return row;
}

std::vector<float> decode(kc::CpuContext& context, const CacheCase& cache, int s, bool is_v, int head, int token,
                          int n = 1) {
    std::vector<float> out(static_cast<size_t>(n * cache.shape.head_dim), NAN);
    kc::kv_decode(context, cache.layer, cache.sequences[static_cast<size_t>(s)], is_v, head, token, n, out.data());
    return out;
}

// Every row of one store against the reference.
void check_store(kc::CpuContext& context, const CacheCase& cache, int s, bool is_v, const std::string& name) {
    const kc_store& store = is_v ? cache.layer.v : cache.layer.k;
    if (store.base == nullptr) return;
    const kc::Kernels* kernels = context.kernels;
    const int head_dim = cache.shape.head_dim;
    const int n_tokens = cache.n_tokens(s);
    const std::vector<double> rotation = rotation_of(kernels, head_dim);
    for (int head = 0; head < cache.shape.n_kv_heads; ++head) {
        std::vector<double> centre(static_cast<size_t>(head_dim));
        for (int t = 0; t < 64 && n_tokens >= 64; ++t) {
            const std::vector<double> row = row_of(kernels, cache, s, t, head, is_v);
            for (size_t d = 0; d < row.size(); ++d) centre[d] += row[d] / 64;
        }
        const std::vector<float> all = decode(context, cache, s, is_v, head, 0, n_tokens);
        int n_other = 0;
        for (int t = 0; t < n_tokens; ++t) {
            const std::vector<double> row = row_of(kernels, cache, s, t, head, is_v);
            const float* stored = all.data() + t * head_dim;
            const auto at = [&] {
                return name + (is_v ? " V" : " K") + " head " + std::to_string(head) + " token " + std::to_string(t);
            };
            if (store.codec == KC_CODEC_F16 || t < 64) {
                for (size_t d = 0; d < row.size(); ++d)
                    CHECK(stored[d] == static_cast<float>(row[d]), at() << ": " << stored[d] << ", given " << row[d]);
                continue;
            }
            std::vector<double> centred = row;
            for (size_t d = 0; d < row.size(); ++d) centred[d] -= centre[d];
            const Expected code = expected_code(store.codec, times(rotation, centred, false));
            std::vector<double> expected = times(rotation, code.y, true);
            for (size_t d = 0; d < row.size(); ++d) expected[d] += centre[d];
            const std::vector<double> got(stored, stored + head_dim);
            // A scale in f16 is off by 2^-11; a number between two levels may go either way, which is rare.
            const double off = squared_distance(got, expected);
            const double size = squared_length(centred) + 1e-6 * squared_length(centre);
            if (off > 1e-6 * size) ++n_other;
            const double largest_error = largest_row_error(store.codec);
            CHECK(squared_distance(got, row) <= largest_error * size,
                  at() << ": the error's share is " << squared_distance(got, row) / size);
        }
        CHECK(n_other <= 1 + n_tokens / 10,
              name << ": " << n_other << " of " << n_tokens << " rows are not as the reference codes them");
    }
}

// Exact rows are addressed as kcache_ops.h says.
void check_exact(const kc::Kernels* kernels, const CacheCase& cache, int s, const std::string& name) {
    const kc_exact_store& exact = cache.layer.exact;
    if (exact.base == nullptr || exact.v_codec != KC_CODEC_F16) return;
    const int head_dim = cache.shape.head_dim;
    const kc_sequence_view& view = cache.sequences[static_cast<size_t>(s)];
    const bool first_page_elsewhere = cache.layer.v.first != nullptr;
    for (int t = first_page_elsewhere ? 64 : 0; t < cache.n_tokens(s); ++t) {
        for (int head = 0; head < cache.shape.n_kv_heads; ++head) {
            const uint8_t* at = exact.base + view.pages[t / 64].exact * exact.slot_stride_bytes +
                                (head * 64 + t % 64) * exact.row_bytes;
            for (const bool is_v : {false, true}) {
                if (!is_v && !cache.shape.exact_has_k) continue;
                const std::vector<double> row = row_of(kernels, cache, s, t, head, is_v);
                for (int d = 0; d < head_dim; ++d, at += 2) {
                    uint16_t half;
                    std::memcpy(&half, at, sizeof half);
                    CHECK(kc::from_half(half) == static_cast<float>(row[static_cast<size_t>(d)]),
                          name << ": exact " << (is_v ? "V" : "K") << " of token " << t << ", head " << head << ", "
                               << d);
                }
            }
        }
    }
}

void check_all(kc::CpuContext& context, const CacheCase& cache, const std::string& name) {
    for (int s = 0; s < static_cast<int>(cache.sequences.size()); ++s) {
        check_store(context, cache, s, false, name);
        check_store(context, cache, s, true, name);
        check_exact(context.kernels, cache, s, name);
    }
    CHECK(cache.n_nonfinite == 0, name << ": " << cache.n_nonfinite << " rows counted");
}

std::string named(const kc::Kernels* kernels, const CacheShape& shape) {
    std::ostringstream name;
    name << kernels->name << ", " << shape.n_kv_heads << " heads of " << shape.head_dim << ", codecs " << shape.k_codec
         << " and " << shape.v_codec << (shape.exact ? shape.exact_has_k ? ", exact K and V" : ", exact V" : "");
    return name.str();
}

// Every codec at every head size; two sequences of which one ends inside a page.
void codecs(const kc::Kernels* kernels) {
    for (const int head_dim : kHeadDims) {
        for (const int32_t codec : kCodecs) {
            CacheShape shape = {3, 3, head_dim};
            shape.k_codec = codec;
            shape.v_codec = kCodecs[(codec + 1) % 5];
            shape.exact = codec == KC_CODEC_Q4 || codec == KC_CODEC_Q2;
            shape.exact_has_k = shape.exact;
            TestContext context(kernels, 2);
            CacheCase cache(shape, 2, 3, static_cast<unsigned>(head_dim + codec));
            cache.append_random(context.cpu, 0, 131);
            cache.append_random(context.cpu, 1, 64, 30.f);
            cache.append_random(context.cpu, 1, 1, 30.f);
            check_all(context.cpu, cache, named(kernels, shape));
        }
    }
}

// Exact rows of values alone, with and without a store beside them.
void exact_values(const kc::Kernels* kernels) {
    for (const int32_t v_codec : {0, static_cast<int>(KC_CODEC_F16)}) {
        CacheShape shape = {4, 2, 80};
        shape.v_codec = v_codec;
        shape.exact = true;
        TestContext context(kernels, 2);
        CacheCase cache(shape, 2, 3, 5);
        cache.append_random(context.cpu, 0, 63);
        cache.append_random(context.cpu, 0, 67);
        cache.append_random(context.cpu, 1, 5);
        check_all(context.cpu, cache, named(kernels, shape));
    }
}

// However a text is cut, and with however many threads, the bits are the same.
void cuts(const kc::Kernels* kernels) {
    const int n_tokens = 200;
    const std::vector<std::vector<int>> all_cuts = {
        {200}, {1, 62, 1, 1, 62, 1, 1, 71}, {63, 2, 135}, {64, 64, 64, 8}, {65, 63, 72}, {10, 190}};
    for (const int32_t codec : kCodecs) {
        CacheShape shape = {4, 2, 48};
        shape.k_codec = shape.v_codec = codec;
        shape.exact = shape.exact_has_k = true;
        std::vector<float> whole_k, whole_v;
        for (const auto& cut : all_cuts) {
            TestContext context(kernels, cut.size() > 2 ? 1 : 3);
            CacheCase cache(shape, 1, 4, 11);
            std::mt19937 random(17);
            std::normal_distribution<float> distribution;
            std::vector<float> k, v;
            const size_t width = static_cast<size_t>(shape.n_kv_heads * shape.head_dim);
            for (size_t i = 0; i < width * n_tokens; ++i)
                k.push_back(distribution(random)), v.push_back(1.f + distribution(random));
            size_t past = 0;
            for (const int n : cut) {
                const auto part = [&](const std::vector<float>& x) {
                    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(past * width);
                    return std::vector<float>(begin,
                                              begin + static_cast<std::ptrdiff_t>(static_cast<size_t>(n) * width));
                };
                cache.append(context.cpu, 0, part(k), part(v));
                past += static_cast<size_t>(n);
            }
            std::vector<float> got_k, got_v;
            for (int head = 0; head < shape.n_kv_heads; ++head) {
                const std::vector<float> a = decode(context.cpu, cache, 0, false, head, 0, n_tokens);
                const std::vector<float> b = decode(context.cpu, cache, 0, true, head, 0, n_tokens);
                got_k.insert(got_k.end(), a.begin(), a.end());
                got_v.insert(got_v.end(), b.begin(), b.end());
            }
            if (whole_k.empty()) whole_k = got_k, whole_v = got_v;
            CHECK(std::memcmp(got_k.data(), whole_k.data(), sizeof(float) * got_k.size()) == 0,
                  named(kernels, shape) << ": K in " << cut.size() << " parts");
            CHECK(std::memcmp(got_v.data(), whole_v.data(), sizeof(float) * got_v.size()) == 0,
                  named(kernels, shape) << ": V in " << cut.size() << " parts");
            check_exact(kernels, cache, 0, named(kernels, shape));
        }
    }
}

// Rows behind the last one keep the bytes they had: the cache poisons what was never written with 0xff, which is NaN.
void nothing_beyond(const kc::Kernels* kernels) {
    CacheShape shape = {2, 2, 64};
    shape.exact = shape.exact_has_k = true;
    TestContext context(kernels, 2);
    CacheCase cache(shape, 1, 3, 3);
    cache.append_random(context.cpu, 0, 70);
    for (int head = 0; head < 2; ++head) {
        for (const bool is_v : {false, true}) {
            const std::vector<float> behind = decode(context.cpu, cache, 0, is_v, head, 70, 58);
            for (const float x : behind) CHECK(std::isnan(x), "a row behind the last one was written: " << x);
        }
    }
    const kc_sequence_view& view = cache.sequences[0];
    const uint8_t* rows = cache.layer.exact.base + view.pages[1].exact * cache.layer.exact.slot_stride_bytes;
    for (int64_t i = 6 * cache.layer.exact.row_bytes; i < 64 * cache.layer.exact.row_bytes; ++i)
        CHECK(rows[i] == 0xff, "exact byte " << i);
}

// NaN is stored as 0 and what is too large as the largest; each row of a head counts once, in K and in V.
void nonfinite(const kc::Kernels* kernels) {
    for (const int32_t codec : kCodecs) {
        CacheShape shape = {2, 2, 64};
        shape.k_codec = shape.v_codec = codec;
        TestContext context(kernels, 2);
        CacheCase cache(shape, 1, 2, 9);
        const int n = 70, width = 128;
        std::vector<float> k = cache.normal(static_cast<size_t>(n * width)), v = cache.normal(k.size());
        const auto set = [&](std::vector<float>& x, int token, int head, int d, float value) {
            x[static_cast<size_t>(token * width + head * 64 + d)] = value;
        };
        set(k, 3, 0, 5, NAN);
        set(k, 3, 0, 6, INFINITY);  // the same row of the same head
        set(k, 3, 1, 5, -INFINITY);
        set(v, 3, 1, 63, 1e6f);
        set(v, 63, 0, 0, -65520.f);  // the least that rounds past the largest f16
        set(k, 66, 0, 0, NAN);
        set(v, 69, 1, 7, 65504.f);  // fits
        set(k, 69, 1, 7, 65519.f);  // rounds to it
        cache.append(context.cpu, 0, k, v);
        CHECK(cache.n_nonfinite == 5, "codec " << codec << ": " << cache.n_nonfinite << " rows counted, not 5");
        const std::vector<float> first = decode(context.cpu, cache, 0, false, 0, 3),
                                 second = decode(context.cpu, cache, 0, false, 1, 3);
        CHECK(first[5] == 0.f && first[6] == 65504.f && second[5] == -65504.f,
              first[5] << ", " << first[6] << ", " << second[5]);
        const std::vector<float> third = decode(context.cpu, cache, 0, true, 1, 3),
                                 fourth = decode(context.cpu, cache, 0, true, 0, 63);
        CHECK(third[63] == 65504.f && fourth[0] == -65504.f, third[63] << ", " << fourth[0]);
        for (const bool is_v : {false, true}) {
            for (int head = 0; head < 2; ++head) {
                for (const float x : decode(context.cpu, cache, 0, is_v, head, 0, n))
                    CHECK(std::isfinite(x), "codec " << codec << " keeps " << x);
            }
        }
        // The count goes on from what it was.
        std::vector<float> one(static_cast<size_t>(width), 1.f), bad(one);
        bad[0] = NAN;
        cache.append(context.cpu, 0, one, bad);
        CHECK(cache.n_nonfinite == 6, "codec " << codec << ": " << cache.n_nonfinite);
    }
}

// Several sequences in one call, their rows one behind the other.
void together(const kc::Kernels* kernels) {
    CacheShape shape = {2, 2, 32};
    shape.k_codec = KC_CODEC_Q4;
    shape.v_codec = KC_CODEC_Q2;
    TestContext context(kernels, 2);
    CacheCase alone(shape, 3, 3, 21), both(shape, 3, 3, 21);
    const int lengths[] = {130, 1, 64};
    std::vector<float> k, v;
    int32_t first_row = 0;
    for (int s = 0; s < 3; ++s) {
        const std::vector<float> new_k = alone.normal(static_cast<size_t>(lengths[s] * 64)),
                                 new_v = alone.normal(new_k.size());
        alone.append(context.cpu, s, new_k, new_v);
        k.insert(k.end(), new_k.begin(), new_k.end());
        v.insert(v.end(), new_v.begin(), new_v.end());
        kc_sequence_view& view = both.sequences[static_cast<size_t>(s)];
        view.first_row = first_row;
        view.n_rows = lengths[s];
        view.n_pages = (lengths[s] + 63) / 64;
        view.set_centre = lengths[s] >= 64;
        first_row += lengths[s];
    }
    uint64_t n_nonfinite = 0;
    kc_kv_append_params params = {};
    params.n_sequences = 3;
    params.layer = &both.layer;
    params.sequences = both.sequences.data();
    params.k = k.data();
    params.v = v.data();
    params.n_nonfinite = &n_nonfinite;
    kc::kv_append(context.cpu, params);
    for (int s = 0; s < 3; ++s) {
        for (int head = 0; head < 2; ++head) {
            for (const bool is_v : {false, true}) {
                const std::vector<float> a = decode(context.cpu, alone, s, is_v, head, 0, lengths[s]);
                const std::vector<float> b = decode(context.cpu, both, s, is_v, head, 0, lengths[s]);
                CHECK(std::memcmp(a.data(), b.data(), sizeof(float) * a.size()) == 0,
                      "sequence " << s << ", head " << head << (is_v ? ", V" : ", K"));
            }
        }
    }
}

}  // namespace

int main() {
    for (const kc::Kernels* kernels : all_kernels()) {
        codecs(kernels);
        exact_values(kernels);
        cuts(kernels);
        nothing_beyond(kernels);
        nonfinite(kernels);
        together(kernels);
    }
    return kc_test::check_result();
}
