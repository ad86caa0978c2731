// Decode by graphs: a model gives the same bits whether its steps are replayed from graphs or run call by call, while
// pages fill, rows are evicted and come back, spans begin, batches grow and shrink, sequences fork and are truncated,
// two caches take turns, and steps go wrong half-way; and over hundreds of steps of one cache.
#include <algorithm>
#include <cstdlib>

#include "cache_harness.h"
#include "machine.h"
#include "small_model.h"

using namespace harness;

namespace {

struct Sort {
    Variant variant;
    bool tight;
    size_t n_prompt;
    uint32_t n_steps;  // of each part of the play
};

const int32_t kF16 = KC_CODEC_F16;
const Sort sorts[] = {
    {{"full", KC_POLICY_FULL, kF16, kF16, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, false, 250, 25},
    {{"kcache", KC_POLICY_KCACHE, kF16, kF16, 4, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, false, 1013, 8},
    {{"kcache", KC_POLICY_KCACHE, kF16, kF16, 4, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, true, 370, 25},
    {{"sketch", KC_POLICY_SKETCH, 0, 0, 4, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, true, 370, 25},
};

// What may come in the middle of a step.
enum class Trouble { none, error, rollback_at_end, read, prompt_elsewhere };

struct Player {
    const Context& context;
    Model& model;
    std::vector<float> out = {};
    uint64_t n_replayed = 0, n_steps = 0;

    // One step of some sequences: the tokens are those that their last logits liked best.
    void step(Cache& cache, std::vector<std::pair<int32_t, int32_t>>& sequences, Trouble trouble,
              Cache* other = nullptr) {
        std::vector<Work> batch;
        std::vector<int32_t> ids;
        for (const auto& [sequence, token] : sequences) {
            batch.push_back({sequence, {0}, KC_ENTRY_DECODE});
            ids.push_back(token);
        }
        const auto n = static_cast<int64_t>(ids.size());
        model.tell(ids);
        must(cache.begin(batch), "kc_cache_begin");
        int32_t replayed = -1;
        must(kc_cache_replay_begin(cache.handle, 7, &replayed), "kc_cache_replay_begin");
        CHECK(replayed == 0 || replayed == 1, replayed);
        ++n_steps;
        n_replayed += uint64_t(replayed);
        if (!replayed) {
            model.begin(n);
            for (int32_t layer = 0; layer < cache.shape.n_layers; ++layer) {
                if (layer == 1 && trouble == Trouble::error) {
                    CHECK(kc_cache_append(cache.handle, 0, model_rows(), model_rows()) == KC_ERR_STATE,
                          "layer 0 again");
                    CHECK(kc_cache_commit(cache.handle) == KC_ERR_STATE, "a layer is missing");
                    must(kc_cache_rollback(cache.handle), "kc_cache_rollback");
                    return;
                }
                if (layer == 1 && trouble == Trouble::read) model.logits(n);
                if (layer == 1 && trouble == Trouble::prompt_elsewhere && other != nullptr)
                    other->prompt(0, text(40, 5), 20);
                model.layer(cache.handle, cache.shape, layer, n);
            }
            model.end(n);
        }
        if (trouble == Trouble::rollback_at_end || trouble == Trouble::error) {
            must(kc_cache_rollback(cache.handle), "kc_cache_rollback");
            return;
        }
        must(kc_cache_replay_end(cache.handle), "kc_cache_replay_end");
        const std::vector<float> logits = model.logits(n);
        must(kc_cache_commit(cache.handle), "kc_cache_commit");
        out.insert(out.end(), logits.begin(), logits.end());
        for (size_t i = 0; i < sequences.size(); ++i) {
            const float* row = &logits[i * kVocab];
            sequences[i].second = static_cast<int32_t>(std::max_element(row, row + kVocab) - row);
        }
    }

    // A step that is told a token that is none: the device says so where the logits are asked for.
    void refused(Cache& cache, int32_t sequence) {
        model.tell({kVocab});
        must(cache.begin({{sequence, {0}, KC_ENTRY_DECODE}}), "kc_cache_begin");
        int32_t replayed = 0;
        must(kc_cache_replay_begin(cache.handle, 7, &replayed), "kc_cache_replay_begin");
        if (!replayed) {
            model.begin(1);
            for (int32_t layer = 0; layer < cache.shape.n_layers; ++layer)
                model.layer(cache.handle, cache.shape, layer, 1);
            model.end(1);
        }
        must(kc_cache_replay_end(cache.handle), "kc_cache_replay_end");
        std::vector<float> logits(kVocab);
        CHECK(model.read_logits(logits) == KC_ERR_ARGUMENT, "a token that is none: " << kc_last_message());
        must(kc_cache_rollback(cache.handle), "kc_cache_rollback");
    }

  private:
    static const float* model_rows() {
        static const float row[1] = {};
        return row;  // refused before it is read
    }
};

struct Outcome {
    std::vector<float> out;
    kc_statistics statistics;
    uint64_t n_replayed, n_steps, n_launches;
};

kc_cache_desc describe(const Context& context, const Shape& shape, const Sort& sort, int32_t n_context,
                       int32_t n_sequences) {
    kc_cache_desc desc = describe(shape, KC_POLICY_FULL, n_context);
    apply(sort.variant, desc);
    desc.n_sequences = n_sequences;
    desc.n_batch_tokens = 64;
    desc.n_recent = 2;
    if (sort.tight) desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
    return desc;
}

Outcome play(const Sort& sort, bool graphs) {
    setenv("KCACHE_CUDA_GRAPHS", graphs ? "1" : "0", 1);
    const Shape shape = small_shape();
    const Context context;
    Model model(context);
    const kc_cache_desc desc = describe(context, shape, sort, sort.n_prompt > 1000 ? 1200 : 448, kMostEntries);
    Cache cache(context, shape, desc);
    Player player{context, model};
    const uint64_t before = simt::n_graph_launches;

    // Two sequences, one of which fills its first page on the way.
    const int32_t a = cache.open(), b = cache.open();
    cache.prompt(a, text(sort.n_prompt, 1), 64);
    cache.prompt(b, text(58, 2), 64);
    std::vector<std::pair<int32_t, int32_t>> two = {{a, 1}, {b, 2}};
    for (uint32_t step = 0; step < sort.n_steps; ++step) player.step(cache, two, Trouble::none);
    // Steps that are given up: while they are recorded, call by call, or replayed.
    for (int i = 0; i < 3; ++i) player.step(cache, two, Trouble::rollback_at_end);

    // A third that shares the pages of the first; another cache takes turns, and goes.
    int32_t c = -1;
    must(kc_sequence_fork(cache.handle, a, &c), "kc_sequence_fork");
    std::vector<std::pair<int32_t, int32_t>> three = {{b, two[1].second}, {a, two[0].second}, {c, 3}};
    {
        Cache second(context, shape, desc);
        second.open();
        second.prompt(0, text(70, 3), 64);
        std::vector<std::pair<int32_t, int32_t>> one = {{0, 4}};
        for (uint32_t step = 0; step < sort.n_steps; ++step) {
            player.step(cache, three, Trouble::none);
            player.step(second, one, Trouble::none);
            if (step == 1) player.step(cache, three, Trouble::error);
        }
    }
    // Fewer again, and one of them shorter.
    must(kc_sequence_free(cache.handle, b), "kc_sequence_free");
    must(kc_sequence_truncate(cache.handle, a, int32_t(sort.n_prompt) - 3), "kc_sequence_truncate");
    std::vector<std::pair<int32_t, int32_t>> left = {{c, three[2].second}, {a, three[1].second}};
    for (uint32_t step = 0; step < sort.n_steps; ++step) player.step(cache, left, Trouble::none);
    return {player.out, cache.statistics(), player.n_replayed, player.n_steps, simt::n_graph_launches - before};
}

// What no record can hold comes in the middle of the step that would be recorded (the second), and of others.
Outcome disturbed(Trouble trouble, bool graphs) {
    setenv("KCACHE_CUDA_GRAPHS", graphs ? "1" : "0", 1);
    const Shape shape = small_shape();
    const Context context;
    Model model(context);
    kc_cache_desc desc = describe(shape, KC_POLICY_SKETCH, 256);
    desc.n_keep = 4;
    desc.n_sink = 4;
    Cache cache(context, shape, desc), other(context, shape, desc);
    Player player{context, model};
    cache.open(), other.open();
    cache.prompt(0, text(100, 1), 64);
    std::vector<std::pair<int32_t, int32_t>> one = {{0, 4}};
    const uint64_t before = simt::n_graph_launches;
    for (int step = 0; step < 6; ++step) player.step(cache, one, step % 3 == 1 ? trouble : Trouble::none, &other);
    return {player.out, cache.statistics(), player.n_replayed, player.n_steps, simt::n_graph_launches - before};
}

// One sequence grows by kLongSteps tokens and over the borders of pages. Now and then a forward that is run call by
// call goes wrong in its middle, or the device refuses what a step was told; both are rolled back, and the next step is
// a replay that must not see any of it.
constexpr int kLongSteps = 310;

Outcome grow(const Sort& sort, bool graphs) {
    setenv("KCACHE_CUDA_GRAPHS", graphs ? "1" : "0", 1);
    const Shape shape = small_shape();
    const Context context;
    Model model(context);
    Cache cache(context, shape, describe(context, shape, sort, int32_t(sort.n_prompt) + kLongSteps + 2, 1));
    Player player{context, model};
    const uint64_t before = simt::n_graph_launches;
    std::vector<std::pair<int32_t, int32_t>> one = {{cache.open(), 1}};
    cache.prompt(one[0].first, text(sort.n_prompt, 1), 64);
    for (int step = 0; step < kLongSteps; ++step) {
        const bool stops_half_way = step % 41 == 20, is_refused = step % 41 == 30;
        if (stops_half_way) {
            model.tell({one[0].second});
            must(cache.begin({{one[0].first, {0}, KC_ENTRY_DECODE}}), "kc_cache_begin");
            model.begin(1);
            model.layer(cache.handle, shape, 0, 1);
            CHECK(kc_cache_commit(cache.handle) == KC_ERR_STATE, "a layer is missing");
            must(kc_cache_rollback(cache.handle), "kc_cache_rollback");
        }
        if (is_refused) player.refused(cache, one[0].first);
        const uint64_t n_replayed = player.n_replayed;
        player.step(cache, one, Trouble::none);
        if (stops_half_way || is_refused)
            CHECK(!graphs || player.n_replayed == n_replayed + 1, "step " << step << " is no replay");
    }
    int32_t n_tokens = 0;
    must(kc_sequence_length(cache.handle, one[0].first, &n_tokens), "kc_sequence_length");
    CHECK(n_tokens == int32_t(sort.n_prompt) + kLongSteps, n_tokens);
    return {player.out, cache.statistics(), player.n_replayed, player.n_steps, simt::n_graph_launches - before};
}

const Sort long_sorts[] = {
    {{"full", KC_POLICY_FULL, kF16, kF16, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, false, 30, kLongSteps},
    {{"kcache", KC_POLICY_KCACHE, kF16, kF16, 4, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, false, 30, kLongSteps},
    {{"sketch", KC_POLICY_SKETCH, 0, 0, 4, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0}, true, 200, kLongSteps},
};

bool same_counts(const kc_statistics& a, const kc_statistics& b) {
    return a.n_steps == b.n_steps && a.rows_restored == b.rows_restored && a.rows_hot == b.rows_hot &&
           a.rows_selected == b.rows_selected && a.read_bytes == b.read_bytes && a.tail_sum == b.tail_sum &&
           a.n_nonfinite == b.n_nonfinite;
}

void misuse() {
    const Shape shape = small_shape();
    const Context context;
    Cache cache(context, shape, describe(shape, KC_POLICY_FULL, 128));
    int32_t replayed = -1;
    CHECK(kc_cache_replay_begin(cache.handle, 0, &replayed) == KC_ERR_STATE, "without a forward");
    CHECK(kc_cache_replay_begin(nullptr, 0, &replayed) == KC_ERR_ARGUMENT, "no cache");
    must(kc_cache_replay_end(cache.handle), "kc_cache_replay_end of nothing");
    must(cache.begin({{cache.open(), {1, 2}, KC_ENTRY_DECODE}}), "kc_cache_begin");
    CHECK(kc_cache_replay_begin(cache.handle, 0, nullptr) == KC_ERR_ARGUMENT, "no out_replayed");
    must(kc_cache_replay_begin(cache.handle, 0, &replayed), "kc_cache_replay_begin of two tokens");
    CHECK(replayed == 0, "two tokens");
    cache.layer({{0, {1, 2}, KC_ENTRY_DECODE}}, 0);
    CHECK(kc_cache_replay_begin(cache.handle, 0, &replayed) == KC_ERR_STATE, "behind a layer");
    must(kc_cache_rollback(cache.handle), "kc_cache_rollback");

    const Work work = {0, {1}, KC_ENTRY_DECODE};
    must(cache.begin({work}), "kc_cache_begin");
    must(kc_cache_replay_begin(cache.handle, 0, &replayed), "kc_cache_replay_begin");
    for (int32_t layer = 0; layer < shape.n_layers; ++layer) cache.layer({work}, layer);
    CHECK(kc_cache_commit(cache.handle) == KC_ERR_STATE, "commit before replay_end");
    must(kc_cache_replay_end(cache.handle), "kc_cache_replay_end");
    must(kc_cache_commit(cache.handle), "kc_cache_commit");
}

}  // namespace

int main(int argc, char** argv) {
    const uint64_t n_seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2;
    misuse();
    for (const Trouble trouble : {Trouble::none, Trouble::read, Trouble::prompt_elsewhere}) {
        const Outcome plain = disturbed(trouble, false), recorded = disturbed(trouble, true);
        CHECK(same_bits(plain.out, recorded.out) && same_counts(plain.statistics, recorded.statistics),
              "trouble " << int(trouble) << ": other bits or counts than without graphs");
        CHECK(recorded.n_replayed == (trouble == Trouble::none ? 4 : 0) &&
                  recorded.n_launches == (trouble == Trouble::none ? 5 : 1),
              "trouble " << int(trouble) << ": " << recorded.n_replayed << " replays, " << recorded.n_launches
                         << " launches");
    }
    for (const Sort& sort : sorts) {
        const std::string name =
            std::string(sort.variant.name) + (sort.tight ? ", tight, " : ", ") + std::to_string(sort.n_prompt);
        simt::set_seed(0);
        const Outcome plain = play(sort, false);
        CHECK(all_finite(plain.out) && plain.n_replayed == 0 && plain.n_launches == 0,
              name << ": " << plain.n_launches << " graphs without graphs");
        if (sort.tight) CHECK(plain.statistics.rows_restored > 0, name << ": nothing restored");
        for (uint64_t seed = 1; seed <= (sort.n_prompt > 1000 ? 1 : n_seeds); ++seed) {
            simt::set_seed(seed);
            const Outcome replayed = play(sort, true);
            CHECK(same_bits(plain.out, replayed.out), name << ", seed " << seed << ": other bits than without graphs");
            CHECK(replayed.n_steps == plain.n_steps && 2 * replayed.n_replayed > replayed.n_steps,
                  name << ": only " << replayed.n_replayed << " replays of " << replayed.n_steps << " steps");
            CHECK(replayed.n_launches > replayed.n_replayed, name << ": " << replayed.n_launches << " launches");
            CHECK(same_counts(plain.statistics, replayed.statistics), name << ": other counts");
        }
    }
    for (const Sort& sort : long_sorts) {
        const std::string name = std::string(sort.variant.name) + ", long";
        simt::set_seed(0);
        const Outcome plain = grow(sort, false);
        simt::set_seed(1);
        const Outcome replayed = grow(sort, true);
        CHECK(all_finite(plain.out) && plain.n_launches == 0, name);
        CHECK(same_bits(plain.out, replayed.out), name << ": other bits than without graphs");
        CHECK(same_counts(plain.statistics, replayed.statistics), name << ": other counts");
        if (sort.tight) CHECK(plain.statistics.rows_restored > 0, name << ": nothing restored");
        // Of each shape (two for every span of tokens, with spilled rows and without, and that of the step that sets
        // the centre) the first is run call by call, the second is recorded.
        CHECK(replayed.n_steps == kLongSteps && replayed.n_replayed > kLongSteps - 10,
              name << ": " << replayed.n_replayed << " replays of " << replayed.n_steps << " steps");
    }
    return kc_test::check_result();
}
