// Random calls of the C ABI in random order with absurd arguments, for as many seconds as the argument says. A call may
// fail; it must not crash, hang, leak, or leave numbers that are not numbers in a forward that succeeded. Prints its
// seed.
#include <chrono>
#include <random>

#include "cache_harness.h"

using namespace harness;

namespace {

class Fuzzer {
  public:
    explicit Fuzzer(uint64_t seed) : random_(seed) {}

    void run(double seconds) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
        while (std::chrono::steady_clock::now() < end) life();
    }

    uint64_t n_calls = 0, n_succeeded = 0, n_forwards = 0;

  private:
    uint64_t below(uint64_t n) { return random_() % n; }
    bool chance(int one_in) { return below(uint64_t(one_in)) == 0; }

    // Mostly something sensible, sometimes an edge, sometimes nonsense.
    int32_t number(int32_t low, int32_t high) {
        if (chance(40)) {
            constexpr int32_t edges[] = {0, -1, 1, INT32_MAX, INT32_MIN, 63, 64, 65, 1 << 16, 1 << 26};
            return edges[below(std::size(edges))];
        }
        return low + int32_t(below(uint64_t(high - low) + 1));
    }

    void count(kc_status status) {
        ++n_calls;
        n_succeeded += status == KC_OK;
        CHECK(status <= 0 && status >= KC_ERR_INTERNAL, status);
        CHECK(status != KC_ERR_INTERNAL, kc_last_message());
        if (status != KC_OK) CHECK(kc_last_message()[0] != '\0', "a failure without a sentence");
    }

    kc_cache_desc description() {
        kc_cache_desc desc = {};
        desc.size = chance(60) ? uint32_t(number(0, 200)) : uint32_t(sizeof desc);
        shape_.n_layers = number(1, 3);
        shape_.n_kv_heads = number(1, 3);
        shape_.n_q_heads = chance(30) ? number(1, 9) : int32_t(uint32_t(shape_.n_kv_heads) * uint32_t(1 + below(3)));
        shape_.head_dim = chance(30) ? number(1, 300) : int32_t(16 * (1 + below(4)));
        desc.n_layers = shape_.n_layers;
        desc.n_q_heads = shape_.n_q_heads;
        desc.n_kv_heads = shape_.n_kv_heads;
        desc.head_dim = shape_.head_dim;
        desc.n_context = number(1, 400);
        desc.n_sequences = number(0, 4);
        desc.n_batch_tokens = number(0, 100);
        if (chance(3)) desc.n_pool_tokens = number(1, 1000);
        if (chance(4)) desc.scale = chance(5) ? NAN : 0.3f;
        desc.policy = number(0, KC_POLICY_SKETCH);
        desc.mode = chance(6) ? number(0, 2) : 0;
        desc.select = chance(3) ? number(0, 1) : 0;
        desc.k_codec = chance(3) ? number(0, 6) : 0;
        desc.v_codec = chance(3) ? number(0, 6) : 0;
        desc.v_sketch = chance(8) ? number(0, 6) : 0;
        desc.n_keep = number(0, 40);
        desc.n_keep_max = chance(3) ? number(0, 100) : 0;
        desc.n_sink = number(0, 8);
        desc.n_recent = number(1, 80);
        desc.n_dense_layers = chance(3) ? number(0, 3) : 0;
        if (chance(4)) desc.max_tail = 0.2f;
        if (chance(6)) desc.max_error = 0.1f;
        if (chance(20)) desc.spill_dir = chance(2) ? "/no/such/directory" : "";
        return desc;
    }

    // From a context to its end.
    void life() {
        kc_context_desc desc = {};
        desc.size = sizeof desc;
        desc.backend = chance(20) ? number(0, 3) : KC_BACKEND_CPU;
        desc.n_threads = 1 + int32_t(below(2));
        desc.activations = chance(20) ? number(0, 2) : 0;
        kc_context* context = nullptr;
        count(kc_context_create(&desc, &context));
        if (!context) return;
        for (uint64_t i = below(4) + 1; i > 0; --i) cache_life(context);
        kc_context_info info = {};
        info.size = sizeof info;
        must(kc_context_info_get(context, &info), "kc_context_info_get");
        CHECK(info.live_bytes == 0 && info.n_live_objects == 0, info.live_bytes << " bytes left");
        must(kc_context_destroy(context), "kc_context_destroy");
    }

    void cache_life(kc_context* context) {
        kc_cache_desc desc = description();
        kc_memory memory = {};
        memory.size = sizeof memory;
        const kc_status planned = kc_cache_memory(context, &desc, &memory);
        count(planned);
        // What would take long to fill is only planned.
        if (planned == KC_OK && memory.fast_bytes > (64u << 20)) return;
        if (planned == KC_OK && chance(2)) {
            desc.fast_budget_bytes =
                memory.fast_minimum_bytes + below(memory.fast_bytes - memory.fast_minimum_bytes + 1);
        }
        kc_cache* cache = nullptr;
        count(kc_cache_create(context, &desc, &cache));
        if (!cache) return;
        CHECK(planned == KC_OK, "created what could not be planned");
        strange_ = false;  // what one cache was given shows in no other
        for (uint64_t i = 20 + below(150); i > 0; --i) call(cache, desc);
        kc_cache_destroy(cache);
    }

    void call(kc_cache* cache, const kc_cache_desc& desc) {
        const int32_t n_sequences = desc.n_sequences ? desc.n_sequences : 1;
        int32_t out = 0;
        switch (below(18)) {
            case 0:
            case 1:
                count(kc_sequence_create(cache, chance(50) ? nullptr : &out));
                break;
            case 2:
                count(kc_sequence_fork(cache, number(0, n_sequences), &out));
                break;
            case 3:
                count(kc_sequence_truncate(cache, number(0, n_sequences), number(0, desc.n_context)));
                break;
            case 4:
                if (chance(3)) count(kc_sequence_free(cache, number(0, n_sequences)));
                break;
            case 5:
                count(kc_sequence_length(cache, number(0, n_sequences), &out));
                break;
            case 6:
                count(kc_cache_rollback(cache));
                break;
            case 7:
                count(kc_cache_commit(cache));
                break;
            case 8:
                append(cache, number(0, desc.n_layers));
                break;
            case 9:
                attend(cache, number(0, desc.n_layers));
                break;
            case 10:
                statistics(cache, number(-1, desc.n_layers));
                break;
            case 11:
                begin(cache, n_sequences);
                break;
            case 12:
                count(kc_cache_replay_begin(cache, below(3), chance(20) ? nullptr : &out));
                break;
            case 13:
                count(kc_cache_replay_end(cache));
                break;
            default:
                begin(cache, n_sequences);
                if (chance(3)) count(kc_cache_replay_begin(cache, below(3), &out));
                for (int32_t layer = 0; layer < desc.n_layers; ++layer) {
                    append(cache, layer);
                    attend(cache, layer);
                    if (chance(30)) return;
                }
                if (!chance(10)) count(kc_cache_replay_end(cache));
                count(kc_cache_commit(cache));
                break;
        }
    }

    void begin(kc_cache* cache, int32_t n_sequences) {
        kc_batch_entry entries[5];
        const int32_t n = number(1, 4);
        for (int32_t e = 0; e < 5; ++e) {
            entries[e] = {number(0, n_sequences - 1), chance(3) ? number(1, 70) : 1,
                          chance(30) ? number(0, 3) : int32_t(below(2))};
        }
        const kc_status status = kc_cache_begin(cache, chance(60) ? nullptr : entries, std::min(n, 5));
        count(status);
        if (status != KC_OK) return;
        n_rows_ = 0;
        for (int32_t e = 0; e < std::min(n, 5); ++e) n_rows_ += size_t(entries[e].n_tokens);
        ++n_forwards;
    }

    void append(kc_cache* cache, int32_t layer) {
        rows_.resize(n_rows_ * size_t(shape_.kv_width()) + 1);
        const bool strange = chance(100);
        for (float& x : rows_) x = noise(random_());
        if (strange) rows_[below(rows_.size())] = chance(2) ? NAN : 1e30f;
        strange_ |= strange;
        count(kc_cache_append(cache, layer, chance(100) ? nullptr : rows_.data(), rows_.data()));
    }

    void attend(kc_cache* cache, int32_t layer) {
        queries_.resize(n_rows_ * size_t(shape_.q_width()) + 1);
        for (float& x : queries_) x = noise(random_());
        result_.assign(queries_.size(), 0.0f);
        const kc_status status = kc_cache_attend(cache, layer, queries_.data(), chance(100) ? nullptr : result_.data());
        count(status);
        if (status == KC_OK) CHECK(strange_ || all_finite(result_), "not a number after numbers");
    }

    void statistics(kc_cache* cache, int32_t layer) {
        kc_statistics statistics = {};
        statistics.size = chance(20) ? 0 : uint32_t(sizeof statistics);
        count(kc_cache_statistics(cache, layer, &statistics));
        if (chance(10)) count(kc_cache_statistics_reset(cache));
        kc_memory memory = {};
        memory.size = sizeof memory;
        count(kc_cache_usage(cache, &memory));
    }

    std::mt19937_64 random_;
    Shape shape_;
    size_t n_rows_ = 0;
    bool strange_ = false;
    std::vector<float> rows_, queries_, result_;
};

}  // namespace

int main(int argc, char** argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 5;
    const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device()();
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    Fuzzer fuzzer(seed);
    fuzzer.run(seconds);
    std::printf("%llu calls, %llu of them succeeded, %llu forwards\n", static_cast<unsigned long long>(fuzzer.n_calls),
                static_cast<unsigned long long>(fuzzer.n_succeeded),
                static_cast<unsigned long long>(fuzzer.n_forwards));
    CHECK(fuzzer.n_forwards > 0, "no forward in " << seconds << " s");
    return kc_test::check_result();
}
