// Decode steps of a cache (two layers of 32 query heads, 8 KV heads of 128) by policy, context, N and batch, exact rows
// in pinned memory at the smallest budget or all in device memory; each against `full` with as many sequences as the
// same device memory holds. The text is made up: how many rows are found hot is not that of real text.
#include <algorithm>

#include "bandwidth.h"
#include "device.h"
#include "report.h"
#include "stages.h"

namespace bench {
namespace {

constexpr int32_t kLayers = 2;
constexpr int32_t kWarmSteps = 8;
constexpr int32_t kSteps = 32;
constexpr int32_t kMostSequences = 128;
constexpr double kMostPinnedBytes = 32e9;

struct Point {
    int32_t policy;
    int32_t n_context;
    int32_t n_keep;
    int32_t n_sequences;
    bool spills;
};

struct Measured {
    double step_seconds = 0;  // of one layer
    kc_memory memory = {};
    kc_statistics statistics = {};
};

class Sweep {
  public:
    explicit Sweep(const StageOptions& with)
        : options(with), report(with.folder, "sweep"), begun(now()), device_bytes(context.device().free_bytes) {
        const int64_t rows = int64_t{window()} + 4096 + std::max(window(), kMostSequences);
        Noise noise(11);
        for (Memory* m : {&base, &other}) *m = Memory(context, noise.take(static_cast<size_t>(rows * width())));
        sums = Memory(context, static_cast<uint64_t>(kLayers * most_rows() * width()) * 4);
        q = Memory(context, noise.take(static_cast<size_t>((kMostSequences + kSteps) * q_width())));
        q_now = Memory(context, static_cast<uint64_t>(kMostSequences * q_width()) * 4);
        out = Memory(context, static_cast<uint64_t>(kMostSequences * q_width()) * 4);
    }

    int run() {
        std::vector<int32_t> contexts = {1024, 4096, 16384, 65536, 262144}, keeps = {32, 128, 512, 1024},
                             batches = {1, 8, 64};
        if (options.tiny) contexts = {256}, keeps = {8}, batches = {1, 2};
        for (const int32_t n_context : contexts) {
            for (const int32_t n_sequences : batches) {
                for (const int32_t n_keep : keeps) {
                    if (n_keep >= n_context) continue;
                    for (const int32_t policy : {KC_POLICY_KCACHE, KC_POLICY_SKETCH}) {
                        for (const bool spills : {true, false})
                            compare({policy, n_context, n_keep, n_sequences, spills});
                    }
                }
            }
        }
        return is_late ? 75 : 0;
    }

  private:
    StageOptions options;
    Report report;
    double begun;
    bool is_late = false;
    Context context;
    uint64_t device_bytes;
    Memory base, other, sums, q, q_now, out;

    int32_t n_q_heads() const { return options.tiny ? 4 : 32; }
    int32_t n_kv_heads() const { return options.tiny ? 2 : 8; }
    int32_t head_dim() const { return options.tiny ? 32 : 128; }
    int32_t window() const { return options.tiny ? 64 : 2048; }
    int32_t n_steps() const { return options.tiny ? 2 : kSteps; }
    int64_t width() const { return int64_t(n_kv_heads()) * head_dim(); }
    int64_t q_width() const { return int64_t(n_q_heads()) * head_dim(); }

    static std::string name(const Point& p) {
        const char* policy = p.policy == KC_POLICY_FULL ? "full" : p.policy == KC_POLICY_KCACHE ? "kcache" : "sketch";
        return std::string(policy) + "-" + std::to_string(p.n_context) + "-" + std::to_string(p.n_keep) + "-" +
               std::to_string(p.n_sequences) + (p.spills ? "-pinned" : "-device");
    }

    kc_cache_desc describe(const Point& p) const {
        kc_cache_desc desc = {};
        desc.size = sizeof desc;
        desc.n_layers = kLayers;
        desc.n_q_heads = n_q_heads();
        desc.n_kv_heads = n_kv_heads();
        desc.head_dim = head_dim();
        desc.n_context = p.n_context + KC_PAGE_TOKENS;
        desc.n_sequences = p.n_sequences;
        desc.n_batch_tokens = std::max(window(), kMostSequences);
        desc.policy = p.policy;
        if (p.policy != KC_POLICY_FULL) {
            desc.n_keep = p.n_keep;
            desc.n_sink = 4;
            desc.n_recent = 32;
        }
        if (p.spills) desc.fast_budget_bytes = plan(desc).fast_minimum_bytes;
        return desc;
    }

    kc_memory plan(const kc_cache_desc& desc) const {
        kc_memory memory = {};
        memory.size = sizeof memory;
        must(kc_cache_memory(context.handle, &desc, &memory), "kc_cache_memory");
        return memory;
    }

    // Sequences of `full` that the same device memory holds.
    int32_t full_sequences(const Point& p, uint64_t bytes) const {
        const auto fits = [&](int32_t n) {
            return plan(describe({KC_POLICY_FULL, p.n_context, 0, n, false})).fast_bytes <= bytes;
        };
        int32_t n = p.n_sequences;
        while (n > 0 && !fits(n)) --n;
        while (n >= p.n_sequences && n < (options.tiny ? 3 : kMostSequences) && fits(n + 1)) ++n;
        return n;
    }

    void compare(const Point& p) {
        const std::string key = name(p);
        if (report.has(key) || is_late) return;
        if (now() - begun > options.seconds) {
            is_late = true;
            return;
        }
        const kc_memory memory = plan(describe(p));
        std::string reason;
        if (static_cast<double>(memory.fast_bytes) > 0.85 * static_cast<double>(device_bytes)) reason = "device memory";
        if (static_cast<double>(memory.slow_bytes) > kMostPinnedBytes) reason = "pinned memory";
        if (!reason.empty()) {
            report.add("Left out: more than this run allows", key,
                       {{"point", key},
                        {"of", reason},
                        {"device, GB", static_cast<double>(memory.fast_bytes) / 1e9},
                        {"pinned, GB", static_cast<double>(memory.slow_bytes) / 1e9}});
            return;
        }
        const int32_t n_full = full_sequences(p, memory.fast_bytes);
        double full_seconds = 0;
        if (n_full > 0) {
            const Point full = {KC_POLICY_FULL, p.n_context, 0, n_full, false};
            full_seconds = report.number(name(full), "us a layer's step") / 1e6;
            if (full_seconds < 0) {
                const Measured m = measure(full);
                full_seconds = m.step_seconds;
                report.add("full", name(full),
                           {{"context", int64_t{full.n_context}},
                            {"batch", int64_t{full.n_sequences}},
                            {"us a layer's step", m.step_seconds * 1e6, "%.5g"},
                            {"device, GB", static_cast<double>(m.memory.fast_bytes) / 1e9}});
            }
        }
        const Measured m = measure(p);
        const double rate = p.n_sequences / m.step_seconds, full_rate = n_full > 0 ? n_full / full_seconds : 0;
        const auto needed = static_cast<double>(m.statistics.rows_hot + m.statistics.rows_restored);
        report.add("A layer's decode step", key,
                   {{"policy", std::string(p.policy == KC_POLICY_KCACHE ? "kcache" : "sketch")},
                    {"exact rows in", std::string(p.spills ? "pinned" : "device")},
                    {"context", int64_t{p.n_context}},
                    {"N", int64_t{p.n_keep}},
                    {"batch", int64_t{p.n_sequences}},
                    {"us a layer's step", m.step_seconds * 1e6, "%.5g"},
                    {"device, GB", static_cast<double>(m.memory.fast_bytes) / 1e9},
                    {"pinned, GB", static_cast<double>(m.memory.slow_bytes) / 1e9},
                    {"hot", needed > 0 ? static_cast<double>(m.statistics.rows_hot) / needed : 0, "%.2f"},
                    {"batch of full in the same memory", int64_t{n_full}},
                    {"tokens/s against it", n_full > 0 ? rate / full_rate : 0, "%.2f"}});
    }

    int64_t most_rows() const { return std::max(window(), kMostSequences); }

    // New rows of a layer: sums of two tables at shifts of their own, so that no two tokens are the same. At one
    // address in every step, as a model has them, so that a step can be replayed.
    const float* fresh_rows(uint64_t number, int32_t layer, int32_t n) {
        float* rows = sums.data<float>() + layer * most_rows() * width();
        const auto shift = static_cast<int64_t>(number * 977 % static_cast<uint64_t>(window() + 4096));
        must(kc_add(context.handle, base.data<float>() + shift * width(),
                    other.data<float>() + static_cast<int64_t>(number % 61) * width(), n * width(), rows),
             "kc_add");
        return rows;
    }

    // Of all layers of a step.
    const float* fresh_queries(uint64_t number, int32_t n) {
        const float* from = q.data<float>() + static_cast<int64_t>(number % kSteps) * q_width();
        must(kc_add(context.handle, from, q.data<float>(), n * q_width(), q_now.data<float>()), "kc_add");
        return q_now.data<float>();
    }

    void forward(kc_cache* cache, const std::vector<kc_batch_entry>& entries, uint64_t& number, bool attends) {
        must(kc_cache_begin(cache, entries.data(), static_cast<int32_t>(entries.size())), "kc_cache_begin");
        int32_t n = 0;
        for (const kc_batch_entry& entry : entries) n += entry.n_tokens;
        const float* rows[kLayers];
        for (int32_t layer = 0; layer < kLayers; ++layer) rows[layer] = fresh_rows(number++, layer, n);
        const float* queries = attends ? fresh_queries(number / kLayers, n) : nullptr;
        int32_t replayed = 0;
        must(kc_cache_replay_begin(cache, 0, &replayed), "kc_cache_replay_begin");
        for (int32_t layer = 0; layer < kLayers && !replayed; ++layer) {
            must(kc_cache_append(cache, layer, rows[layer], rows[layer]), "kc_cache_append");
            if (attends) must(kc_cache_attend(cache, layer, queries, out.data<float>()), "kc_cache_attend");
        }
        must(kc_cache_replay_end(cache), "kc_cache_replay_end");
        must(kc_cache_commit(cache), "kc_cache_commit");
    }

    Measured measure(const Point& p) {
        const kc_cache_desc desc = describe(p);
        kc_cache* cache = nullptr;
        must(kc_cache_create(context.handle, &desc, &cache), "kc_cache_create");
        uint64_t number = 0;
        std::vector<kc_batch_entry> all;
        for (int32_t s = 0; s < p.n_sequences; ++s) {
            kc_batch_entry entry = {0, 0, KC_ENTRY_PROMPT};
            must(kc_sequence_create(cache, &entry.sequence), "kc_sequence_create");
            for (int32_t at = 0; at < p.n_context; at += entry.n_tokens) {
                entry.n_tokens = std::min(window(), p.n_context - at);
                forward(cache, {entry}, number, false);
            }
            all.push_back({entry.sequence, 1, KC_ENTRY_DECODE});
        }
        for (int32_t step = 0; step < (options.tiny ? 1 : kWarmSteps); ++step) forward(cache, all, number, true);
        context.sync();
        must(kc_cache_statistics_reset(cache), "kc_cache_statistics_reset");
        const double begin = now();
        for (int32_t step = 0; step < n_steps(); ++step) forward(cache, all, number, true);
        context.sync();
        Measured m;
        m.step_seconds = (now() - begin) / n_steps() / kLayers;
        m.memory.size = sizeof m.memory;
        must(kc_cache_usage(cache, &m.memory), "kc_cache_usage");
        m.statistics.size = sizeof m.statistics;
        must(kc_cache_statistics(cache, -1, &m.statistics), "kc_cache_statistics");
        kc_cache_destroy(cache);
        return m;
    }
};

}  // namespace

int run_sweep(const StageOptions& options) { return Sweep(options).run(); }

}  // namespace bench
