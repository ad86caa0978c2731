// The CPU and the simulated device hold the same tokens under the same policies: what they attend agrees within
// rounding, whatever the codec (both round queries and rows to the same integers), and what they count (rows selected,
// restored, hot, bytes) agrees exactly.
#include <algorithm>
#include <cmath>

#include "cache_harness.h"
#include "machine.h"

using namespace harness;

namespace {

struct Row {
    Variant variant;
    float tolerance;  // of an output whose rows have unit variance
};

const int32_t kF16 = KC_CODEC_F16, kQ8 = KC_CODEC_Q8;
const Row rows[] = {
    {{"full", KC_POLICY_FULL, kF16, kF16, 0, 0, 0, 0, 0}, 1e-4f},
    {{"full q8", KC_POLICY_FULL, kQ8, kQ8, 0, 0, 0, 0, 0}, 1e-3f},
    {{"window", KC_POLICY_WINDOW, kF16, kF16, 0, 0, 0, 0, 0}, 1e-4f},
    {{"kcache", KC_POLICY_KCACHE, kF16, kF16, 6, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, 1e-4f},
    {{"kcache union", KC_POLICY_KCACHE, kF16, kF16, 5, 0, KC_SELECT_UNION, KC_MODE_EXACT_WEIGHTS, 0}, 1e-4f},
    {{"kcache tail", KC_POLICY_KCACHE, kF16, kF16, 2, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0.1f}, 1e-4f},
    {{"kcache v q8", KC_POLICY_KCACHE, kF16, kQ8, 6, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, 1e-3f},
    {{"kcache k q8", KC_POLICY_KCACHE, kQ8, kF16, 6, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, 1e-3f},
    {{"sketch k f16", KC_POLICY_SKETCH, kF16, 0, 6, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, 1e-3f},
    {{"sketch k q8", KC_POLICY_SKETCH, kQ8, 0, 6, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, 1e-3f},
    {{"sketch", KC_POLICY_SKETCH, 0, 0, 6, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, 1e-3f},
    {{"sketch k q2 v q4", KC_POLICY_SKETCH, KC_CODEC_Q2, 0, 6, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, 1e-3f},
    {{"full q4", KC_POLICY_FULL, KC_CODEC_Q4, KC_CODEC_Q4, 0, 0, 0, 0, 0}, 1e-3f},
    {{"full q3 q2", KC_POLICY_FULL, KC_CODEC_Q3, KC_CODEC_Q2, 0, 0, 0, 0, 0}, 1e-3f},
};

struct Run {
    std::vector<float> out;
    kc_statistics statistics;
};

// A prompt and decode steps of two sequences, one of them a fork; at the smallest budget that the plan allows, if
// `tight`.
Run run(int32_t backend, const Row& row, bool tight, size_t n_prompt) {
    const Context context(2, backend);
    Shape shape;
    shape.n_layers = 3;  // fewer, and what spilling needs beside the slots costs more than it saves
    kc_cache_desc desc = describe(shape, KC_POLICY_FULL, 384);
    apply(row.variant, desc);
    desc.n_sequences = 2;
    desc.n_batch_tokens = 32;
    if (tight) desc.n_recent = 8;
    if (tight) desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
    Cache cache(context, shape, desc);
    const int32_t first = cache.open();
    cache.prompt(first, text(n_prompt, 1), 32);
    int32_t second = -1;
    must(kc_sequence_fork(cache.handle, first, &second), "kc_sequence_fork");
    Run result;
    for (uint32_t step = 0; step < 3; ++step) {
        const auto out = cache.run(
            {{first, text(1, 100 + step), KC_ENTRY_DECODE}, {second, text(1 + step % 3, 200 + step), KC_ENTRY_DECODE}});
        result.out.insert(result.out.end(), out.begin(), out.end());
    }
    result.statistics = cache.statistics();
    return result;
}

uint64_t n_hot = 0;

void compare(const Row& row, bool tight, size_t n_prompt) {
    const Run cpu = run(KC_BACKEND_CPU, row, tight, n_prompt), cuda = run(KC_BACKEND_CUDA, row, tight, n_prompt);
    const std::string name =
        std::string(row.variant.name) + (tight ? ", tight" : "") + ", " + std::to_string(n_prompt) + " tokens";
    float worst = 0;
    for (size_t i = 0; i < cpu.out.size(); ++i) worst = std::max(worst, std::abs(cpu.out[i] - cuda.out[i]));
    CHECK(worst <= row.tolerance && all_finite(cuda.out), name << ": off by " << worst);
    if (tight) {
        CHECK(cuda.statistics.rows_restored > 0, name << ": nothing came from the slow home");
        n_hot += cuda.statistics.rows_hot;
    }
    const kc_statistics &a = cpu.statistics, &b = cuda.statistics;
    CHECK(a.n_steps == b.n_steps && a.n_head_steps == b.n_head_steps, name);
    CHECK(a.rows_selected == b.rows_selected, name << ": " << a.rows_selected << " and " << b.rows_selected);
    CHECK(a.rows_restored == b.rows_restored, name << ": " << a.rows_restored << " and " << b.rows_restored);
    CHECK(a.rows_hot == b.rows_hot, name << ": " << a.rows_hot << " and " << b.rows_hot);
    CHECK(a.restored_bytes == b.restored_bytes, name << ": " << a.restored_bytes << " and " << b.restored_bytes);
    CHECK(a.bound_missed == b.bound_missed && a.n_nonfinite == b.n_nonfinite, name);
    CHECK(std::abs(a.tail_sum - b.tail_sum) <= 1e-5 * double(a.n_head_steps),
          name << ": " << a.tail_sum << " and " << b.tail_sum);
}

}  // namespace

int main(int argc, char** argv) {
    for (const Row& row : rows) {
        if (!wanted(row.variant, argc, argv, 1)) continue;
        for (const size_t n_prompt : {size_t(40), size_t(100)}) compare(row, false, n_prompt);
        if (row.variant.policy >= KC_POLICY_KCACHE) compare(row, true, 350);
    }
    CHECK(argc > 1 || n_hot > 0, "no row was ever found hot");
    return kc_test::check_result();
}
