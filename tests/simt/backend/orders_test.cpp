// Adversarial orders of streams, blocks and threads, one per seed: a model of three layers whose pools are so small
// that every step evicts gives the bits of a cache in which everything is resident; half of the steps are replayed. An
// argument is the first of the seeds, a second one how many; a seed that fails is printed.
#include "cache_harness.h"
#include "machine.h"

using namespace harness;

namespace {

struct Sort {
    Variant variant;
    size_t n_prompt;
};

const Sort sorts[] = {
    {{"kcache", KC_POLICY_KCACHE, KC_CODEC_F16, KC_CODEC_F16, 4, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, 330},
    {{"sketch", KC_POLICY_SKETCH, 0, 0, 4, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, 270},
};

struct Outcome {
    std::vector<float> out;
    kc_statistics statistics;
    uint64_t n_replayed;
};

// A prompt in two turns, a fork, decode steps of both, a truncation, and a prompt that streams spilled rows back.
Outcome play(const Sort& sort, bool tight) {
    Shape shape;
    shape.n_layers = 3;
    shape.n_q_heads = 2;
    shape.n_kv_heads = 2;
    shape.head_dim = 16;
    const Context context;
    kc_cache_desc desc = describe(shape, KC_POLICY_FULL, 384);
    apply(sort.variant, desc);
    desc.n_sequences = 2;
    desc.n_batch_tokens = 32;
    desc.n_recent = 2;
    if (tight) desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
    Cache cache(context, shape, desc);
    Outcome outcome;
    const auto keep = [&](const std::vector<float>& out) {
        outcome.out.insert(outcome.out.end(), out.begin(), out.end());
    };
    const int32_t first = cache.open();
    cache.prompt(first, text(sort.n_prompt, 1), 32);
    int32_t second = -1;
    must(kc_sequence_fork(cache.handle, first, &second), "kc_sequence_fork");
    Steps steps(cache, 2);
    for (uint32_t step = 0; step < 4; ++step) {
        keep(steps.run({{first, text(1, 10 + step), KC_ENTRY_DECODE}, {second, text(1, 20 + step), KC_ENTRY_DECODE}}));
    }
    must(kc_sequence_truncate(cache.handle, first, int32_t(sort.n_prompt) - 3), "kc_sequence_truncate");
    keep(cache.run({{first, text(5, 30), KC_ENTRY_PROMPT}}));
    keep(cache.run({{first, text(2, 40), KC_ENTRY_DECODE}}));
    outcome.statistics = cache.statistics();
    outcome.n_replayed = steps.n_replayed;
    return outcome;
}

}  // namespace

int main(int argc, char** argv) {
    const uint64_t first = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1,
                   n_seeds = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 200;
    for (const Sort& sort : sorts) {
        simt::set_seed(0);
        const Outcome resident = play(sort, false);
        CHECK(all_finite(resident.out) && resident.statistics.rows_restored == 0, sort.variant.name);
        // Every second seed is played by the one sort, the others by the other.
        for (uint64_t seed = first + uint64_t(&sort - sorts); seed < first + n_seeds; seed += 2) {
            simt::set_seed(seed);
            const Outcome tight = play(sort, true);
            CHECK(same_bits(resident.out, tight.out),
                  sort.variant.name << ", seed " << seed << ": other bits than with everything resident");
            CHECK(tight.n_replayed == 2,
                  sort.variant.name << ", seed " << seed << ": " << tight.n_replayed << " replays");
            CHECK(tight.statistics.rows_restored > 0, sort.variant.name << ", seed " << seed << ": nothing restored");
        }
    }
    return kc_test::check_result();
}
