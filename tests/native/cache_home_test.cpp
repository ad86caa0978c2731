// The same bits whatever the home of exact rows, the threads, the batch, the windows of a prompt, and, where everything
// is kept, the policy.
#include <algorithm>

#include "cache_harness.h"

using namespace harness;

namespace {

constexpr int32_t kContext = 640;

const Variant kVariants[] = {
    {"full f16", KC_POLICY_FULL, KC_CODEC_F16, KC_CODEC_F16, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"full q8", KC_POLICY_FULL, KC_CODEC_Q8, KC_CODEC_Q8, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"window f16", KC_POLICY_WINDOW, KC_CODEC_F16, KC_CODEC_F16, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"window q8", KC_POLICY_WINDOW, KC_CODEC_Q8, KC_CODEC_Q8, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"kcache f16", KC_POLICY_KCACHE, KC_CODEC_F16, KC_CODEC_F16, 12, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"kcache f16 dense 1", KC_POLICY_KCACHE, KC_CODEC_F16, KC_CODEC_F16, 12, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED,
     0},
    {"kcache union", KC_POLICY_KCACHE, KC_CODEC_F16, KC_CODEC_F16, 7, 0, KC_SELECT_UNION, KC_MODE_RENORMALIZED, 0},
    {"kcache exact-weights", KC_POLICY_KCACHE, KC_CODEC_F16, KC_CODEC_F16, 9, 1, KC_SELECT_GROUP, KC_MODE_EXACT_WEIGHTS,
     0},
    {"kcache max_tail", KC_POLICY_KCACHE, KC_CODEC_F16, KC_CODEC_F16, 3, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED,
     0.2f},
    {"kcache k q8", KC_POLICY_KCACHE, KC_CODEC_Q8, KC_CODEC_F16, 12, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"kcache v q8", KC_POLICY_KCACHE, KC_CODEC_F16, KC_CODEC_Q8, 12, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"kcache q8", KC_POLICY_KCACHE, KC_CODEC_Q8, KC_CODEC_Q8, 12, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"sketch", KC_POLICY_SKETCH, 0, 0, 12, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"sketch k f16 dense 1", KC_POLICY_SKETCH, KC_CODEC_F16, 0, 6, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"sketch k q8 tail", KC_POLICY_SKETCH, KC_CODEC_Q8, 0, 3, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0.2f},
    {"full q4", KC_POLICY_FULL, KC_CODEC_Q4, KC_CODEC_Q4, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"full q3 q2", KC_POLICY_FULL, KC_CODEC_Q3, KC_CODEC_Q2, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
};

struct Way {
    int32_t n_threads = 1;
    bool tight = false;    // the smallest budget
    size_t window = 100;   // tokens of a prompt's forward
    bool batched = true;   // both sequences in one forward
    bool by_token = true;  // decode tokens one forward each
};

const int kDecoded = small_sweep() ? 6 : 40;

kc_cache_desc describe_variant(const Shape& shape, const Variant& variant, const Context& context, const Way& way) {
    kc_cache_desc desc = describe(shape, variant.policy, kContext);
    apply(variant, desc);
    desc.n_sequences = 2;
    desc.n_batch_tokens = small_sweep() ? 40 : 128;
    if (way.tight) desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
    return desc;
}

struct Outcome {
    std::vector<float> rows[2];  // of every decoded token, layer by layer
    kc_statistics statistics;
};

Outcome decode_two(const Variant& variant, const Way& way) {
    Shape shape;
    shape.n_layers = small_sweep() ? 3 : 5;
    Context context(way.n_threads);
    Cache cache(context, shape, describe_variant(shape, variant, context, way));
    Outcome outcome = {};
    const std::vector<uint32_t> texts[2] = {text(small_sweep() ? 400 : 430, 1), text(small_sweep() ? 70 : 130, 2)};
    const std::vector<uint32_t> answers[2] = {text(kDecoded, 3), text(kDecoded, 4)};
    const int32_t sequences[2] = {cache.open(), cache.open()};
    const size_t window = small_sweep() ? std::min(way.window, size_t(40)) : way.window;
    for (int s = 0; s < 2; ++s) cache.prompt(sequences[s], texts[s], window);
    const int step = way.by_token ? 1 : kDecoded / 2;
    for (int at = 0; at < kDecoded; at += step) {
        std::vector<Work> batch;
        for (int s = 0; s < 2; ++s) {
            batch.push_back({sequences[s], {answers[s].begin() + at, answers[s].begin() + at + step}, KC_ENTRY_DECODE});
        }
        const size_t width = size_t(shape.q_width());
        const size_t rows = size_t(step) * width;
        std::vector<std::vector<float>> found(2);
        if (way.batched) {
            const std::vector<float> out = cache.run(batch);
            for (int32_t l = 0; l < shape.n_layers; ++l) {
                for (size_t s = 0; s < 2; ++s) {
                    const auto from = out.begin() + long((size_t(l) * 2 + s) * rows);
                    found[s].insert(found[s].end(), from, from + long(rows));
                }
            }
        } else {
            for (size_t s = 0; s < 2; ++s) found[s] = cache.run({batch[s]});
        }
        // [layer][token] of this forward to token by token.
        for (size_t s = 0; s < 2; ++s) {
            for (size_t t = 0; t < size_t(step); ++t) {
                for (int32_t l = 0; l < shape.n_layers; ++l) {
                    const auto from = found[s].begin() + long(size_t(l) * rows + t * width);
                    outcome.rows[s].insert(outcome.rows[s].end(), from, from + long(width));
                }
            }
        }
    }
    outcome.statistics = cache.statistics();
    return outcome;
}

bool same(const Outcome& a, const Outcome& b) {
    return same_bits(a.rows[0], b.rows[0]) && same_bits(a.rows[1], b.rows[1]);
}

// The small sweep leaves out variants whose parts stand in others: each policy, selection, mode and home of exact rows
// is still there, coded keys and values too.
bool is_repetition(const Variant& variant) {
    for (const char* name : {"full q8", "window f16", "kcache f16", "kcache f16 dense 1", "kcache k q8", "kcache v q8",
                             "sketch k f16 dense 1"}) {
        if (std::strcmp(variant.name, name) == 0) return true;
    }
    return false;
}

void every_way(int argc, char** argv) {
    for (const Variant& variant : kVariants) {
        if (!wanted(variant, argc, argv, 1)) continue;
        if (argc <= 1 && small_sweep() && is_repetition(variant)) continue;
        const Outcome plain = decode_two(variant, {});
        CHECK(all_finite(plain.rows[0]) && all_finite(plain.rows[1]), variant.name);
        CHECK(plain.statistics.rows_restored == 0, variant.name << ": restored " << plain.statistics.rows_restored);
        Way way;
        if (small_sweep()) {
            way.batched = false;
            way.window = 17;
            CHECK(same(plain, decode_two(variant, way)), variant.name << ", one sequence at a time, windows of 17");
        } else {
            for (const int32_t n_threads : {2, 3}) {
                way = {};
                way.n_threads = n_threads;
                CHECK(same(plain, decode_two(variant, way)), variant.name << ", threads " << n_threads);
            }
            way = {};
            way.batched = false;
            CHECK(same(plain, decode_two(variant, way)), variant.name << ", one sequence at a time");
            way = {};
            way.by_token = false;
            CHECK(same(plain, decode_two(variant, way)), variant.name << ", many decode tokens in a forward");
            way = {};
            way.window = 64;
            CHECK(same(plain, decode_two(variant, way)), variant.name << ", prompt in windows of 64");
            way = {};
            way.window = 17;
            CHECK(same(plain, decode_two(variant, way)), variant.name << ", prompt in windows of 17");
        }

        way = {};
        way.tight = true;
        const Outcome tight = decode_two(variant, way);
        CHECK(same(plain, tight), variant.name << ", smallest budget");
        if (variant.policy >= KC_POLICY_KCACHE) {
            CHECK(tight.statistics.rows_restored > 0, variant.name << ": nothing came from the file");
            CHECK(tight.statistics.restored_bytes > 0, variant.name);
        }

        way.n_threads = 3;
        way.by_token = false;
        way.window = 90;
        CHECK(same(plain, decode_two(variant, way)), variant.name << ", smallest budget, 3 threads, other windows");
    }
}

// With N at least the context, rows that are chosen are all rows: the same bits as `full`.
void everything_kept_is_full() {
    for (const int32_t codec : {KC_CODEC_F16, KC_CODEC_Q8}) {
        for (const int32_t k_codec : {KC_CODEC_F16, KC_CODEC_Q8}) {
            const Variant full = {"full",          KC_POLICY_FULL,       k_codec, codec, 0, 0,
                                  KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0};
            const Variant all = {"all",           KC_POLICY_KCACHE,     k_codec, codec, kContext, 0,
                                 KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0};
            Way way;
            const Outcome expected = decode_two(full, way);
            CHECK(same(expected, decode_two(all, way)), "codecs k " << k_codec << " v " << codec);
            way.tight = true;
            CHECK(same(expected, decode_two(all, way)), "smallest budget, codecs k " << k_codec << " v " << codec);
        }
    }
}

// A window of more pages than are summed in one go: forgetting them early or late must not show.
void wide_window() {
    Shape shape;
    shape.n_layers = 1;
    shape.n_q_heads = shape.n_kv_heads = 1;
    shape.head_dim = 16;
    const std::vector<uint32_t> words = text(3400, 1);
    std::vector<float> expected;
    for (const size_t window : {700, 64, 1}) {
        for (const int32_t n_sink : {0, 4}) {
            Context context;
            kc_cache_desc desc = describe(shape, KC_POLICY_WINDOW, 4000);
            desc.n_recent = 1100;
            desc.n_sink = n_sink;
            desc.n_batch_tokens = 700;
            Cache cache(context, shape, desc);
            const int32_t sequence = cache.open();
            cache.prompt(sequence, {words.begin(), words.end() - 100}, 700);
            std::vector<float> rows;
            for (auto at = words.end() - 100; at != words.end();) {
                const auto next = at + std::min<long>(long(window), words.end() - at);
                const std::vector<float> out = cache.run({{sequence, {at, next}, KC_ENTRY_DECODE}});
                rows.insert(rows.end(), out.begin(), out.end());
                at = next;
            }
            if (n_sink == 0) rows.insert(rows.end(), 1, 0.0f);
            if (window == 700) expected.insert(expected.end(), rows.begin(), rows.end());
            const auto from = n_sink == 0 ? expected.begin() : expected.end() - long(rows.size());
            CHECK(std::equal(rows.begin(), rows.end(), from), "sinks " << n_sink << ", tokens of a forward " << window);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    every_way(argc, argv);
    if (argc > 1) return kc_test::check_result();
    everything_kept_is_full();
    wide_window();
    return kc_test::check_result();
}
