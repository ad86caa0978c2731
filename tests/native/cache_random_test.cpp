// Random sequences of append, fork, truncate, free and rollback in one tight cache, compared bit for bit with caches of
// one resident sequence each that hold the same tokens without having shared, spilled or truncated anything.
#include <algorithm>
#include <memory>
#include <random>

#include "cache_harness.h"

using namespace harness;

namespace {

constexpr int32_t kContext = 512;
constexpr int32_t kSequences = 3;
constexpr int32_t kBatchTokens = 96;

struct Tracked {
    std::vector<uint32_t> tokens;
    std::unique_ptr<Cache> alone;  // nullptr: made again from the tokens when it is needed
};

kc_cache_desc describe_alone(const Shape& shape, const Variant& variant) {
    kc_cache_desc desc = describe(shape, variant.policy, kContext);
    apply(variant, desc);
    desc.n_batch_tokens = kBatchTokens;
    return desc;
}

class Game {
  public:
    Game(const Variant& variant, uint32_t seed)
        : variant_(variant), random_(seed), seed_(seed), next_text_(seed * 7919), context_(1 + int32_t(seed % 2)) {
        shape_.n_layers = variant.policy >= KC_POLICY_KCACHE ? 5 : 2;  // rows of more layers, more to spill
        kc_cache_desc desc = describe_alone(shape_, variant);
        desc.n_sequences = kSequences;
        // Every second game lives in a pool that cannot hold all sequences at full length.
        if (seed % 2 == 0) desc.n_pool_tokens = kContext * 2;
        desc.fast_budget_bytes = plan(context_, desc).fast_minimum_bytes;
        cache_ = std::make_unique<Cache>(context_, shape_, desc);
    }

    ~Game() {
        for (auto& [number, tracked] : open_) tracked.alone.reset();
        cache_.reset();
        const kc_context_info info = context_.info();
        CHECK(info.live_bytes == 0 && info.n_live_objects == 0, where() << ": left " << info.live_bytes << " bytes");
    }

    void play(int n_moves) {
        for (move_ = 0; move_ < n_moves; ++move_) {
            switch (below(10)) {
                case 0:
                    open();
                    break;
                case 1:
                    fork();
                    break;
                case 2:
                    truncate();
                    break;
                case 3:
                    if (below(3) == 0) close();
                    break;
                case 4:
                    forward(true);
                    break;
                default:
                    forward(false);
                    break;
            }
        }
    }

    uint64_t n_compared() const { return n_compared_; }
    kc_statistics statistics() const { return cache_->statistics(); }

  private:
    std::string where() const {
        return std::string(variant_.name) + ", seed " + std::to_string(seed_) + ", move " + std::to_string(move_);
    }

    uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }

    std::vector<uint32_t> fresh_text(size_t n) { return text(n, ++next_text_); }

    Tracked* any(int32_t* number) {
        if (open_.empty()) return nullptr;
        auto& [found, tracked] = open_[below(uint32_t(open_.size()))];
        *number = found;
        return &tracked;
    }

    void open() {
        int32_t number = -1;
        const kc_status status = kc_sequence_create(cache_->handle, &number);
        CHECK((status == KC_OK) == (open_.size() < kSequences), where() << ": " << kc_last_message());
        if (status == KC_OK) open_.emplace_back(number, Tracked());
    }

    void fork() {
        int32_t source, number = -1;
        Tracked* tracked = any(&source);
        if (!tracked) return;
        const kc_status status = kc_sequence_fork(cache_->handle, source, &number);
        CHECK((status == KC_OK) == (open_.size() < kSequences), where() << ": " << kc_last_message());
        if (status != KC_OK) return;
        Tracked copy;
        copy.tokens = tracked->tokens;
        open_.emplace_back(number, std::move(copy));
    }

    void truncate() {
        int32_t number;
        Tracked* tracked = any(&number);
        if (!tracked || tracked->tokens.empty()) return;
        // Often to a page's edge.
        auto n = below(uint32_t(tracked->tokens.size()) + 1);
        if (below(3) == 0) n = n / 64 * 64;
        const kc_status status = kc_sequence_truncate(cache_->handle, number, int32_t(n));
        if (variant_.policy == KC_POLICY_WINDOW && status != KC_OK) {
            CHECK(status == KC_ERR_ARGUMENT, where() << ": " << kc_last_message());
            return;
        }
        CHECK(status == KC_OK, where() << ": " << kc_last_message());
        tracked->tokens.resize(n);
        tracked->alone.reset();
    }

    void close() {
        if (open_.empty()) return;
        const auto at = open_.begin() + below(uint32_t(open_.size()));
        must(kc_sequence_free(cache_->handle, at->first), "kc_sequence_free");
        open_.erase(at);
    }

    void forward(bool rolls_back) {
        std::vector<Work> batch;
        std::vector<Tracked*> members;
        int32_t room = kBatchTokens;
        for (auto& [number, tracked] : open_) {
            if (below(3) == 0 || room == 0) continue;
            const bool decode = below(2) == 0;
            int32_t n = 1 + int32_t(below(decode ? (below(2) ? 1 : 9) : 80));
            n = std::min({n, room, kContext - int32_t(tracked.tokens.size())});
            if (n < 1) continue;
            room -= n;
            batch.push_back({number, fresh_text(size_t(n)), decode ? KC_ENTRY_DECODE : KC_ENTRY_PROMPT});
            members.push_back(&tracked);
        }
        if (batch.empty()) return;
        const kc_status status = cache_->begin(batch);
        if (status == KC_ERR_CAPACITY) {  // the pool is full, and nothing has changed
            check_lengths();
            return;
        }
        CHECK(status == KC_OK, where() << ": " << kc_last_message());
        if (status != KC_OK) return;
        const int32_t n_run = rolls_back ? int32_t(below(uint32_t(shape_.n_layers) + 1)) : shape_.n_layers;
        std::vector<std::vector<float>> layers;
        for (int32_t l = 0; l < n_run; ++l) layers.push_back(cache_->layer(batch, l));
        if (rolls_back) {
            must(kc_cache_rollback(cache_->handle), "kc_cache_rollback");
            check_lengths();
            return;
        }
        must(kc_cache_commit(cache_->handle), "kc_cache_commit");
        size_t row = 0;
        for (size_t i = 0; i < batch.size(); ++i) {
            const std::vector<float> expected = alone(*members[i]).run({{0, batch[i].tokens, batch[i].kind}});
            const size_t n = batch[i].tokens.size() * size_t(shape_.q_width());
            for (size_t l = 0; l < layers.size(); ++l) {
                const bool equal = std::memcmp(&layers[l][row], &expected[l * n], n * sizeof(float)) == 0;
                CHECK(equal, where() << ", layer " << l << ", sequence " << batch[i].sequence << " with "
                                     << members[i]->tokens.size() << " + " << batch[i].tokens.size() << " tokens, kind "
                                     << batch[i].kind);
                ++n_compared_;
            }
            row += n;
            members[i]->tokens.insert(members[i]->tokens.end(), batch[i].tokens.begin(), batch[i].tokens.end());
        }
        check_lengths();
    }

    Cache& alone(Tracked& tracked) {
        if (!tracked.alone) {
            tracked.alone = std::make_unique<Cache>(context_, shape_, describe_alone(shape_, variant_));
            tracked.alone->open();
            tracked.alone->prompt(0, tracked.tokens, kBatchTokens);
        }
        return *tracked.alone;
    }

    void check_lengths() {
        for (auto& [number, tracked] : open_) {
            int32_t n = -1;
            must(kc_sequence_length(cache_->handle, number, &n), "kc_sequence_length");
            CHECK(n == int32_t(tracked.tokens.size()), where()
                                                           << ": " << n << " tokens, not " << tracked.tokens.size());
        }
    }

    Variant variant_;
    std::mt19937 random_;
    uint32_t seed_;
    uint32_t next_text_;
    int move_ = 0;
    uint64_t n_compared_ = 0;
    Shape shape_;
    Context context_;
    std::unique_ptr<Cache> cache_;
    std::vector<std::pair<int32_t, Tracked>> open_;
};

const Variant kVariants[] = {
    {"full f16", KC_POLICY_FULL, KC_CODEC_F16, KC_CODEC_F16, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"full q8", KC_POLICY_FULL, KC_CODEC_Q8, KC_CODEC_Q8, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"window f16", KC_POLICY_WINDOW, KC_CODEC_F16, KC_CODEC_F16, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"window q8", KC_POLICY_WINDOW, KC_CODEC_Q8, KC_CODEC_Q8, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"kcache f16", KC_POLICY_KCACHE, KC_CODEC_F16, KC_CODEC_F16, 5, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"kcache q8 dense", KC_POLICY_KCACHE, KC_CODEC_Q8, KC_CODEC_Q8, 4, 1, KC_SELECT_UNION, KC_MODE_RENORMALIZED, 0},
    {"kcache k q8 max_tail", KC_POLICY_KCACHE, KC_CODEC_Q8, KC_CODEC_F16, 2, 0, KC_SELECT_GROUP, KC_MODE_EXACT_WEIGHTS,
     0.3f},
    {"sketch", KC_POLICY_SKETCH, 0, 0, 5, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
    {"sketch k f16", KC_POLICY_SKETCH, KC_CODEC_F16, 0, 5, 1, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0.3f},
    {"full q4", KC_POLICY_FULL, KC_CODEC_Q4, KC_CODEC_Q2, 0, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0},
};

// The small sweep leaves out variants whose parts stand in others: each policy is still there, with coded rows and
// without.
bool is_repetition(const Variant& variant) {
    for (const char* name : {"full q8", "window f16", "kcache f16", "sketch k f16", "full q4"}) {
        if (std::strcmp(variant.name, name) == 0) return true;
    }
    return false;
}

}  // namespace

int main(int argc, char** argv) {
    const uint32_t n_seeds = argc > 1 ? uint32_t(std::atoi(argv[1])) : small_sweep() ? 1 : 12;
    for (const Variant& variant : kVariants) {
        if (!wanted(variant, argc, argv, 2)) continue;
        if (argc <= 2 && small_sweep() && is_repetition(variant)) continue;
        uint64_t n_compared = 0, n_restored = 0;
        for (uint32_t seed = 1; seed <= n_seeds; ++seed) {
            Game game(variant, seed);
            game.play(60);
            n_compared += game.n_compared();
            n_restored += game.statistics().rows_restored;
        }
        CHECK(n_compared > n_seeds * 20, variant.name << ": only " << n_compared << " comparisons");
        if (variant.policy >= KC_POLICY_KCACHE) CHECK(n_restored > 0, variant.name << ": nothing came from the file");
    }
    return kc_test::check_result();
}
