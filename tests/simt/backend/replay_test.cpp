// Decode by graphs: a model whose buffers stay where they are gives the same bits whether its waves are replayed from
// graphs or launched one by one, while pages fill, rows are evicted and come back, and spans begin.
#include <cstdlib>

#include "cache_harness.h"
#include "machine.h"

using namespace harness;

namespace {

struct Sort {
    Variant variant;
    bool tight;
    size_t n_prompt;
};

const int32_t kF16 = KC_CODEC_F16;
const Sort sorts[] = {
    {{"full", KC_POLICY_FULL, kF16, kF16, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, false, 250},
    {{"kcache", KC_POLICY_KCACHE, kF16, kF16, 4, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, false, 1015},
    {{"kcache", KC_POLICY_KCACHE, kF16, kF16, 4, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, true, 370},
    {{"sketch", KC_POLICY_SKETCH, 0, 0, 4, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, true, 370},
};
constexpr int kSteps = 12;

struct Outcome {
    std::vector<float> out;
    kc_statistics statistics;
    uint64_t n_replayed;
};

Shape small_shape() {
    Shape shape;
    shape.n_q_heads = 4;
    shape.head_dim = 16;
    return shape;
}

// Two sequences, one of which fills its first page on the way, decoded side by side.
Outcome play(const Sort& sort, bool graphs) {
    setenv("KCACHE_CUDA_GRAPHS", graphs ? "1" : "0", 1);
    const Shape shape = small_shape();
    const Context context;
    kc_cache_desc desc = describe(shape, KC_POLICY_FULL, sort.n_prompt > 1000 ? 1200 : 448);
    apply(sort.variant, desc);
    desc.n_sequences = 2;
    desc.n_batch_tokens = 64;
    desc.n_recent = 2;
    if (sort.tight) desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
    Cache cache(context, shape, desc);
    const int32_t sequences[2] = {cache.open(), cache.open()};
    cache.prompt(sequences[0], text(sort.n_prompt, 1), 64);
    cache.prompt(sequences[1], text(58, 2), 64);

    std::vector<float> kv(size_t(2 * shape.kv_width())), q(size_t(2 * shape.q_width()));
    const Rows k(context, kv), v(context, kv), queries(context, q), out(context, q);
    Outcome outcome = {};
    const uint64_t before = simt::n_graph_launches;
    for (uint32_t step = 0; step < kSteps; ++step) {
        const std::vector<uint32_t> tokens = text(2, 10 + step);
        must(cache.begin({{sequences[0], {tokens[0]}, KC_ENTRY_DECODE}, {sequences[1], {tokens[1]}, KC_ENTRY_DECODE}}),
             "kc_cache_begin");
        for (int32_t layer = 0; layer < shape.n_layers; ++layer) {
            const auto write = [&](const Rows& rows, int what, int64_t width) {
                std::vector<float> values(size_t(2 * width));
                for (int64_t i = 0; i < 2; ++i)
                    fill_row(what, tokens[size_t(i)], layer, width, &values[size_t(i * width)]);
                must(kc_buffer_write(rows.buffer, 0, values.data(), values.size() * sizeof(float)), "kc_buffer_write");
            };
            write(k, 0, shape.kv_width());
            write(v, 1, shape.kv_width());
            write(queries, 2, shape.q_width());
            must(kc_cache_append(cache.handle, layer, k.data(), v.data()), "kc_cache_append");
            must(kc_cache_attend(cache.handle, layer, queries.data(), out.data()), "kc_cache_attend");
            out.read(q);
            outcome.out.insert(outcome.out.end(), q.begin(), q.end());
        }
        must(kc_cache_commit(cache.handle), "kc_cache_commit");
    }
    outcome.n_replayed = simt::n_graph_launches - before;
    outcome.statistics = cache.statistics();
    return outcome;
}

}  // namespace

int main(int argc, char** argv) {
    const uint64_t n_seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 3;
    for (const Sort& sort : sorts) {
        const std::string name =
            std::string(sort.variant.name) + (sort.tight ? ", tight, " : ", ") + std::to_string(sort.n_prompt);
        simt::set_seed(0);
        const Outcome plain = play(sort, false);
        CHECK(all_finite(plain.out) && plain.n_replayed == 0, name << ": " << plain.n_replayed << " without graphs");
        if (sort.tight) CHECK(plain.statistics.rows_restored > 0, name << ": nothing restored");
        for (uint64_t seed = 1; seed <= (sort.n_prompt > 1000 ? 1 : n_seeds); ++seed) {
            simt::set_seed(seed);
            const Outcome replayed = play(sort, true);
            CHECK(same_bits(plain.out, replayed.out), name << ", seed " << seed << ": other bits than without graphs");
            CHECK(replayed.n_replayed >= uint64_t(small_shape().n_layers * kSteps / 2),
                  name << ": only " << replayed.n_replayed << " replays");
            CHECK(replayed.statistics.rows_restored == plain.statistics.rows_restored &&
                      replayed.statistics.rows_hot == plain.statistics.rows_hot &&
                      replayed.statistics.rows_selected == plain.statistics.rows_selected,
                  name << ": other counts");
        }
    }
    return kc_test::check_result();
}
