// Every stem alone, and the whole attend, against the floors of this device. Bytes are those that the stem's file
// counts.
#include <functional>
#include <memory>

#include "bandwidth.h"
#include "decode_layer.h"
#include "report.h"
#include "stages.h"

namespace bench {
namespace {

constexpr const char* kCodecs[] = {"", "f16", "q8", "q4", "q3", "q2"};

class Kernels {
  public:
    explicit Kernels(const StageOptions& with)
        : options(with), report(with.folder, "kernels"), begun(now()), round_seconds(with.tiny ? 0 : 0.05) {
        floors = options.tiny ? measure_floors(size_t{1} << 16, 1) : measure_floors(size_t{1} << 30, 10);
        const kc_device_info device = context.device();
        add("Floors of this run", "floors-" + std::to_string(static_cast<int64_t>(begun)),
            {{"device", std::string(device.name)},
             {"memory, GiB", static_cast<double>(device.total_bytes) / (1 << 30)},
             {"device read, GB/s", floors.device_read / 1e9},
             {"pinned rows of 256 bytes, GB/s", floors.pinned_rows / 1e9},
             {"pinned copy, GB/s", floors.pinned_copy / 1e9}});
    }

    int run() {
        scores();
        selections();
        restores();
        attends();
        others();
        return is_late ? 75 : 0;
    }

  private:
    StageOptions options;
    Report report;
    double begun;
    double round_seconds;
    bool is_late = false;
    Context context;
    Floors floors;

    void add(const std::string& table, const std::string& key, const std::vector<Field>& fields) {
        report.add(table, key, fields);
    }
    bool wanted(const std::string& key) {
        if (report.has(key)) return false;
        if (now() - begun > options.seconds) is_late = true;
        return !is_late;
    }
    double time(const std::function<void()>& call) { return seconds_per_call(context, round_seconds, call); }

    // A layer of the size asked for, or its miniature.
    std::unique_ptr<DecodeLayer> layer(int32_t policy, int32_t k_codec, int32_t n_context, int32_t n_sequences,
                                       int32_t n_keep, int32_t n_slots) {
        LayerOptions with;
        with.policy = policy;
        with.k_codec = k_codec;
        with.n_context = n_context;
        with.n_sequences = n_sequences;
        with.n_keep = n_keep;
        with.n_slots = n_slots;
        if (options.tiny) {
            with.n_q_heads = 4;
            with.n_kv_heads = 2;
            with.head_dim = 32;
            with.n_context = 256;
            with.n_sequences = std::min(n_sequences, 2);
            with.n_keep = std::min(n_keep, 8);
            with.n_slots = std::min(n_slots, 16);
        }
        return std::make_unique<DecodeLayer>(context, with);
    }

    void scores() {
        const std::pair<int32_t, int32_t> sizes[] = {{131072, 1}, {65536, 16}};
        for (int32_t codec = KC_CODEC_F16; codec <= KC_CODEC_Q2; ++codec) {
            for (const auto& [n_context, n_sequences] : sizes) {
                const std::string key = "score-" + std::string(kCodecs[codec]) + "-" + std::to_string(n_context) + "-" +
                                        std::to_string(n_sequences);
                if (!wanted(key)) continue;
                const auto l = layer(KC_POLICY_FULL, codec, n_context, n_sequences, 64, 0);
                const double seconds = time([&] { l->score(); });
                const auto bytes = static_cast<double>(l->key_bytes() + l->score_bytes());
                add("attention_score", key,
                    {{"keys", std::string(kCodecs[codec])},
                     {"context", int64_t{n_context}},
                     {"batch", int64_t{n_sequences}},
                     {"keys, MB", static_cast<double>(l->key_bytes()) / 1e6},
                     {"us", seconds * 1e6},
                     {"GB/s", bytes / seconds / 1e9},
                     {"of device read", bytes / seconds / floors.device_read, "%.3f"}});
            }
        }
    }

    void selections() {
        const std::pair<int32_t, int32_t> sizes[] = {{4096, 4}, {65536, 4}, {131072, 1}, {65536, 64}};
        for (const auto& [n_context, n_sequences] : sizes) {
            for (const int32_t n_keep : {32, 64, 256, 1024}) {
                const std::string key = "select-" + std::to_string(n_context) + "-" + std::to_string(n_sequences) +
                                        "-" + std::to_string(n_keep);
                if (!wanted(key)) continue;
                const auto l = layer(KC_POLICY_KCACHE, KC_CODEC_F16, n_context, n_sequences, n_keep, 2 * n_keep);
                l->score();
                const double seconds = time([&] { l->select(); });
                add("select_topn", key,
                    {{"tokens", int64_t{n_context}},
                     {"rows", int64_t{n_sequences} * l->options.n_kv_heads},
                     {"N", int64_t{n_keep}},
                     {"us", seconds * 1e6}});
            }
        }
    }

    void restores() {
        for (const int32_t policy : {KC_POLICY_KCACHE, KC_POLICY_SKETCH}) {
            for (const int32_t n_sequences : {1, 8, 64}) {
                for (const int32_t n_keep : {64, 256}) {
                    const std::string key = "restore-" + std::to_string(policy) + "-" + std::to_string(n_sequences) +
                                            "-" + std::to_string(n_keep);
                    if (!wanted(key)) continue;
                    const auto l = layer(policy, policy == KC_POLICY_SKETCH ? KC_CODEC_Q4 : KC_CODEC_F16, 16384,
                                         n_sequences, n_keep, n_keep);
                    l->score();
                    l->select();
                    // Emptied before each, so that all rows are missed; emptying alone is taken off.
                    const double empty = time([&] { l->drop_hot(); });
                    const double seconds = time([&] {
                                               l->drop_hot();
                                               l->restore();
                                           }) -
                                           empty;
                    const auto bytes = static_cast<double>(l->rows_restored() * l->row_bytes());
                    add("row_restore, nothing hot", key,
                        {{"row, bytes", l->row_bytes()},
                         {"batch", int64_t{n_sequences}},
                         {"N", int64_t{n_keep}},
                         {"rows", l->rows_restored()},
                         {"us", seconds * 1e6},
                         {"GB/s", bytes / seconds / 1e9},
                         {"of pinned rows", bytes / seconds / floors.pinned_rows, "%.3f"},
                         {"of pinned copy", bytes / seconds / floors.pinned_copy, "%.3f"}});
                }
            }
        }
    }

    void attends() {
        for (const int32_t n_sequences : {1, 8}) {
            for (const int32_t policy : {KC_POLICY_FULL, KC_POLICY_KCACHE, KC_POLICY_SKETCH}) {
                for (const int32_t factor : {0, 1, 2, 3, 4}) {
                    if (policy == KC_POLICY_FULL && factor > 0) continue;
                    attend(n_sequences, policy, factor);
                }
            }
        }
    }

    // Hot rows: `factor` times N of them a KV head. With 0 there is one, so that nearly all rows are missed.
    void attend(int32_t n_sequences, int32_t policy, int32_t factor) {
        constexpr int32_t kContext = 65536, kKeep = 64;
        const std::string key =
            "attend-" + std::to_string(policy) + "-" + std::to_string(n_sequences) + "-" + std::to_string(factor);
        if (!wanted(key)) return;
        const bool sketched = policy == KC_POLICY_SKETCH;
        const auto l = layer(policy, sketched ? KC_CODEC_Q4 : KC_CODEC_F16, kContext, n_sequences, kKeep,
                             policy == KC_POLICY_FULL ? 0 : std::max(1, factor * kKeep));
        const double seconds = time([&] { l->step(); });
        const double floor = static_cast<double>(l->key_bytes() + l->value_bytes()) / floors.device_read;
        const int64_t restored = policy == KC_POLICY_FULL ? 0 : l->rows_restored();
        const int64_t hot = policy == KC_POLICY_FULL ? 0 : l->rows_hot();
        add("attend: a layer's step at 65,536 tokens, N 64", key,
            {{"policy", std::string(policy == KC_POLICY_FULL ? "full f16"
                                    : sketched               ? "sketch q4 q2"
                                                             : "kcache f16")},
             {"batch", int64_t{n_sequences}},
             {"hot rows / N", int64_t{factor}},
             {"us", seconds * 1e6},
             {"keys and values read, MB", static_cast<double>(l->key_bytes() + l->value_bytes()) / 1e6},
             {"times their reading", seconds / floor, "%.2f"},
             {"rows hot, last step", hot},
             {"rows fetched, last step", restored}});
    }

    void others() {
        if (wanted("append")) {
            const auto l = layer(KC_POLICY_SKETCH, KC_CODEC_Q4, 4096, 64, 64, 64);
            const double seconds = time([&] { l->append(); });
            add("kv_append: a token a sequence, sketch q4 q2", "append",
                {{"batch", int64_t{l->options.n_sequences}}, {"us", seconds * 1e6}});
        }
        for (const int32_t n_context : {4096, 32768}) {
            const std::string key = "prompt-" + std::to_string(n_context);
            if (!wanted(key)) continue;
            const auto l = layer(KC_POLICY_FULL, KC_CODEC_F16, n_context, 16, 64, 0);
            const int n = options.tiny ? 64 : 1024;
            const double seconds = time([&] { l->prompt(n); });
            const double seen = static_cast<double>(l->options.n_context) - n / 2.0;
            const double flops = 4.0 * n * seen * l->options.n_q_heads * l->options.head_dim;
            add("attention_full: the last 1,024 tokens of a prompt", key,
                {{"context", int64_t{n_context}}, {"ms", seconds * 1e3}, {"TFLOP/s", flops / seconds / 1e12}});
        }
        for (const int32_t n_tokens : {1, 8, 16, 512}) {
            const std::string key = "matmul-" + std::to_string(n_tokens);
            if (wanted(key)) matmul(key, n_tokens);
        }
    }

    void matmul(const std::string& key, int64_t n_tokens) {
        const int64_t n_rows = options.tiny ? 64 : 14336, n_cols = options.tiny ? 64 : 4096;
        const uint64_t n_bytes = kc_matrix_bytes(KC_TYPE_Q8_0, n_rows, n_cols);
        const Memory weight(context, n_bytes), x(context, static_cast<uint64_t>(n_tokens * n_cols) * 4),
            out(context, static_cast<uint64_t>(n_tokens * n_rows) * 4);
        kc_matmul_params params = {};
        params.size = sizeof params;
        params.n_outputs = 1;
        params.x = x.data<float>();
        params.n_tokens = n_tokens;
        params.n_cols = n_cols;
        params.outputs[0].weight = {weight.data(), n_rows, n_cols, KC_TYPE_Q8_0, 0};
        params.outputs[0].out = out.data<float>();
        const double seconds = time([&] { must(kc_matmul(context.handle, &params), "kc_matmul"); });
        const double bytes = static_cast<double>(n_bytes) + 4.0 * static_cast<double>(n_tokens * (n_rows + n_cols));
        add("matmul: Q8_0 [14336, 4096]", key,
            {{"tokens", n_tokens},
             {"us", seconds * 1e6},
             {"GB/s", bytes / seconds / 1e9},
             {"of device read", bytes / seconds / floors.device_read, "%.3f"},
             {"TFLOP/s", 2.0 * static_cast<double>(n_tokens * n_rows * n_cols) / seconds / 1e12}});
    }
};

}  // namespace

int run_kernels(const StageOptions& options) { return Kernels(options).run(); }

}  // namespace bench
