// row_restore: every address holds the bytes that were stored, from fast slots, hot slots, staging and the file; exact
// least-recently-used replacement against a model; forks' shared pages; drops; failed reads.
#include <map>

#include "check.h"
#include "core/error.h"
#include "decode_step.h"

namespace {

using namespace kc_test;

// What a slot-by-slot cache with least recently used replacement holds, by the letter.
struct Model {
    struct Slot {
        int token = -1;
        int used = 0;
    };
    std::vector<Slot> slots;
    int clock = 0;
    explicit Model(int n) : slots(static_cast<size_t>(n)) {}
    // Returns {found, missed} of one step.
    std::pair<int, int> step(const std::vector<int>& tokens) {
        ++clock;
        int found = 0;
        std::vector<int> missed;
        for (const int token : tokens) {
            bool hit = false;
            for (Slot& slot : slots) {
                if (slot.token != token) continue;
                slot.used = clock;
                hit = true;
            }
            if (hit)
                ++found;
            else
                missed.push_back(token);
        }
        for (const int token : missed) {
            Slot* oldest = nullptr;
            for (Slot& slot : slots) {
                if (slot.used != clock && (oldest == nullptr || slot.used < oldest->used)) oldest = &slot;
            }
            if (oldest == nullptr) break;
            *oldest = {token, clock};
        }
        return {found, static_cast<int>(missed.size())};
    }
    void drop(int first) {
        for (Slot& slot : slots) {
            if (slot.token >= first) slot = {};
        }
        if (first <= 0) clock = 0;
    }
};

// The rows as they were stored, read before pages were spilled.
std::map<std::pair<int, int>, std::vector<uint8_t>> stored_rows(const CacheCase& cache, int s) {
    std::map<std::pair<int, int>, std::vector<uint8_t>> rows;
    const kc_exact_store& exact = cache.layer.exact;
    for (int t = 0; t < cache.n_tokens(s); ++t) {
        for (int head = 0; head < cache.shape.n_kv_heads; ++head) {
            const int32_t slot = cache.sequences[static_cast<size_t>(s)].pages[t / 64].exact;
            const uint8_t* row = kc::exact_rows(exact, slot, head) + t % 64 * exact.row_bytes;
            rows[{t, head}] = {row, row + exact.row_bytes};
        }
    }
    return rows;
}

void against_model(const kc::Kernels* kernels, CacheShape shape, int n_hot, int n_threads) {
    TestContext context(kernels, n_threads);
    const int n = 700, n_sequences = 2;
    CacheCase cache(shape, n_sequences, 11);
    std::vector<std::map<std::pair<int, int>, std::vector<uint8_t>>> stored;
    for (int s = 0; s < n_sequences; ++s) {
        cache.append_random(context.cpu, s, n);
        stored.push_back(stored_rows(cache, s));
        // Every third page stays fast.
        for (int p = 0; p < 10; ++p) {
            if (p % 3 != 1) cache.spill_page(s, p);
        }
    }
    StepOptions options;
    options.n_keep = 100000;
    options.n_hot = n_hot;
    DecodeStep step(cache, std::vector<float>(static_cast<size_t>(n_sequences * shape.n_q_heads * shape.head_dim)),
                    options);
    std::vector<Model> models(static_cast<size_t>(n_sequences * shape.n_kv_heads), Model(n_hot));
    std::mt19937 random(11);
    for (int round = 0; round < 60; ++round) {
        if (round % 20 == 19) {
            const int first = round == 59 ? 0 : 300;
            kc::hot_drop(context.cpu, step.hot, shape.n_kv_heads, 1, first);
            for (int head = 0; head < shape.n_kv_heads; ++head)
                models[static_cast<size_t>(shape.n_kv_heads + head)].drop(first);
        }
        std::vector<std::vector<int>> spilled(models.size());
        for (size_t list = 0; list < models.size(); ++list) {
            const int s = static_cast<int>(list) / shape.n_kv_heads;
            // Tokens return often, as the tokens of a text do.
            const double rate = round % 7 == 0 ? 0.2 : 0.03;
            int32_t n_kept = 0;
            int32_t* kept = step.kept.data() + list * static_cast<size_t>(step.kept_stride);
            for (int t = 0; t < n; ++t) {
                const double popularity = t % 11 == 0 ? 6 : 0.5;
                if (std::uniform_real_distribution<>(0, 1)(random) >= rate * popularity) continue;
                kept[n_kept++] = t;
                if (cache.page(s, t / 64).exact < 0) spilled[list].push_back(t);
            }
            step.n_kept[list] = n_kept;
        }
        step.restore(context.cpu);
        for (size_t list = 0; list < models.size(); ++list) {
            const auto [found, missed] = models[list].step(spilled[list]);
            CHECK(step.n_hot[list] == found && step.n_restored[list] == missed,
                  "round " << round << ", " << n_hot << " slots: hot " << step.n_hot[list] << " not " << found
                           << ", restored " << step.n_restored[list] << " not " << missed);
            bool equal = true;
            for (int32_t i = 0; i < step.n_kept[list]; ++i) {
                const size_t at = list * static_cast<size_t>(step.kept_stride) + static_cast<size_t>(i);
                const auto& row = stored[list / static_cast<size_t>(shape.n_kv_heads)].at(
                    {step.kept[at], static_cast<int>(list) % shape.n_kv_heads});
                equal = equal && std::memcmp(step.rows[at], row.data(), row.size()) == 0;
            }
            CHECK(equal, "round " << round << ", " << n_hot << " slots: a row has other bytes");
        }
    }
}

// A read behind the end of the file fails as a whole; afterwards nothing is found that did not arrive.
void failed_read(const kc::Kernels* kernels) {
    TestContext context(kernels, 1);
    CacheCase cache({2, 2, 64, KC_CODEC_F16, 0, true}, 1, 6);
    cache.append_random(context.cpu, 0, 300);
    const auto stored = stored_rows(cache, 0);
    for (int p = 0; p < 4; ++p) cache.spill_page(0, p);
    StepOptions options;
    options.n_keep = 100000;
    options.n_hot = 50;
    DecodeStep step(cache, std::vector<float>(128), options);
    for (size_t head = 0; head < 2; ++head) {
        for (int i = 0; i < 8; ++i)
            step.kept[head * static_cast<size_t>(step.kept_stride) + static_cast<size_t>(i)] = i * 20;
        step.n_kept[head] = 8;
    }
    const int64_t offset = cache.layer.exact.spill_offset_bytes;
    cache.layer.exact.spill_offset_bytes = int64_t{1} << 40;
    bool failed = false;
    try {
        step.restore(context.cpu);
    } catch (const kc::Error&) {
        failed = true;
    }
    CHECK(failed, "a read behind the end must fail");
    CHECK(step.n_restored[0] == 0 && step.n_restored[1] == 0, step.n_restored[0]);
    cache.layer.exact.spill_offset_bytes = offset;
    step.restore(context.cpu);
    CHECK(step.n_restored[0] == 8 && step.n_hot[0] == 0, step.n_restored[0]);
    for (int i = 0; i < 8; ++i) {
        const auto& row = stored.at({i * 20, 1});
        CHECK(std::memcmp(step.rows[static_cast<size_t>(step.kept_stride + i)], row.data(), row.size()) == 0,
              "row " << i);
    }
}

void no_room(const kc::Kernels* kernels) {
    TestContext context(kernels, 2);
    CacheCase cache({1, 1, 64, KC_CODEC_F16, 0, true}, 1, 6);
    cache.append_random(context.cpu, 0, 300);
    for (int p = 0; p < 4; ++p) cache.spill_page(0, p);
    StepOptions options;
    options.n_keep = 100000;
    options.n_hot = 3;
    options.staging = false;
    DecodeStep step(cache, std::vector<float>(64), options);
    for (int i = 0; i < 4; ++i) step.kept[static_cast<size_t>(i)] = i * 20;
    step.n_kept[0] = 4;
    bool failed = false;
    try {
        step.restore(context.cpu);
    } catch (const kc::Error& error) {
        failed = error.status() == KC_ERR_ARGUMENT;
    }
    CHECK(failed, "four rows do not fit three slots without staging");
    step.n_kept[0] = 3;
    step.restore(context.cpu);
    CHECK(step.n_restored[0] == 3, step.n_restored[0]);
}

}  // namespace

int main() {
    const kc::Kernels* kernels = all_kernels().back();
    for (const int n_hot : {1, 5, 40, 120, 700}) {
        for (const int n_threads : {1, 3}) {
            against_model(kernels, {2, 2, 64, KC_CODEC_F16, 0, true}, n_hot, n_threads);
            against_model(kernels, {3, 3, 48, KC_CODEC_F16, 0, true, true}, n_hot, n_threads);
        }
    }
    failed_read(kernels);
    no_room(kernels);
    return check_result();
}
