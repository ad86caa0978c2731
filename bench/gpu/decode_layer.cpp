#include "decode_layer.h"

#include <algorithm>
#include <cmath>

#include "bandwidth.h"

namespace bench {

DecodeLayer::DecodeLayer(const Context& context, const LayerOptions& with)
    : options(with), context_(context), n_pages_(with.n_context / KC_PAGE_TOKENS) {
    layer_.n_q_heads = options.n_q_heads;
    layer_.n_kv_heads = options.n_kv_heads;
    layer_.head_dim = options.head_dim;
    layer_.scale = 1.f / std::sqrt(static_cast<float>(options.head_dim));
    const bool sketched = options.policy == KC_POLICY_SKETCH;
    make_store(layer_.k, options.k_codec, k_, k_first_, k_centre_);
    if (options.policy != KC_POLICY_KCACHE)
        make_store(layer_.v, sketched ? KC_CODEC_Q2 : KC_CODEC_F16, v_, v_first_, v_centre_);
    const int32_t n = options.n_sequences;
    const bool spills = options.n_slots > 0;
    if (selects()) {
        kc_exact_store& exact = layer_.exact;
        exact.has_k = sketched;
        exact.v_codec = KC_CODEC_F16;
        exact.row_bytes = (sketched ? 4 : 2) * options.head_dim;
        exact.slot_stride_bytes = options.n_kv_heads * KC_PAGE_TOKENS * exact.row_bytes;
        // Spilled: the last page of each sequence, and where the pages of a chunk lie until they are pushed.
        const int64_t n_slots = spills ? n + kChunkPages : int64_t(n) * n_pages_;
        exact_ = Memory(context, static_cast<uint64_t>(n_slots * exact.slot_stride_bytes));
        exact.base = exact_.data();
        if (spills) {
            must(kc_spill_create(context.handle, nullptr, &spill_), "kc_spill_create");
            exact.spill = spill_;
            exact.spill_stride_bytes = exact.slot_stride_bytes;
            must(kc_spill_reserve(spill_, static_cast<uint64_t>(n_pages_ * exact.spill_stride_bytes)),
                 "kc_spill_reserve");
        }
    }
    fill();

    for (int32_t s = 0; s < n; ++s) queries_.push_back({s, s, options.n_context, 0});
    const int64_t q_width = int64_t(options.n_q_heads) * options.head_dim;
    Noise noise(7);
    std::vector<float> q = noise.take(static_cast<size_t>(kQueries * n * q_width));
    for (size_t i = static_cast<size_t>(n * q_width); i < q.size(); ++i)
        q[i] = 0.95f * q[i - static_cast<size_t>(n * q_width)] + 0.312f * q[i];
    for (float& x : q) x *= 2.f;  // an uneven softmax
    q_ = Memory(context, q);
    out_ = Memory(context, static_cast<uint64_t>(std::max<int64_t>(n, 1024) * q_width) * 4);

    const kc_wave w = wave();
    const auto q_lists = static_cast<uint64_t>(n) * static_cast<uint64_t>(options.n_q_heads);
    const auto kv_lists = static_cast<uint64_t>(n) * static_cast<uint64_t>(options.n_kv_heads);
    kept_stride_ = std::min<int64_t>(options.n_context, kSinks + kRecent + options.n_keep);
    const uint64_t n_kept = kv_lists * static_cast<uint64_t>(kept_stride_);
    weights_ = Memory(context, q_lists * static_cast<uint64_t>(w.token_stride) * 4);
    for (Memory* m : {&reference_, &mass_, &nonfinite_, &tail_, &error_}) *m = Memory(context, q_lists * 4);
    for (Memory* m : {&n_kept_, &n_selected_, &missed_, &n_restored_, &n_hot_}) *m = Memory(context, kv_lists * 4);
    kept_ = Memory(context, n_kept * 4);
    rows_ = Memory(context, n_kept * sizeof(void*));
    scratch_ = Memory(
        context,
        std::max({kc_attention_score_scratch_bytes(context.handle, &layer_, n, w.token_stride),
                  kc_attention_mix_scratch_bytes(context.handle, &layer_, n, w.token_stride),
                  kc_attention_full_scratch_bytes(context.handle, &layer_, options.n_context),
                  selects() ? kc_select_topn_scratch_bytes(context.handle, &layer_, n, w.token_stride) : uint64_t{1}}));
    if (!selects()) return;
    restore_scratch_ = Memory(context, kc_row_restore_scratch_bytes(context.handle, &layer_, n, kept_stride_));
    if (!spills) return;
    hot_.n_slots = options.n_slots;
    hot_.hot_stride_bytes = options.n_kv_heads * hot_.n_slots * row_bytes();
    hot_.state_stride_bytes = options.n_kv_heads * static_cast<int64_t>(kc_hot_state_bytes(hot_.n_slots));
    hot_rows_ = Memory(context, static_cast<uint64_t>(n * hot_.hot_stride_bytes));
    hot_state_ = Memory(context, static_cast<uint64_t>(n * hot_.state_stride_bytes));
    hot_.rows = hot_rows_.data();
    hot_.state = hot_state_.data();
    drop_hot();
    if (kept_stride_ > hot_.n_slots) staging_ = Memory(context, n_kept * static_cast<uint64_t>(row_bytes()));
}

void DecodeLayer::make_store(kc_store& store, int32_t codec, Memory& base, Memory& first, Memory& centre) {
    const int32_t n = options.n_sequences;
    store.codec = codec;
    store.page_stride_bytes = options.n_kv_heads * static_cast<int64_t>(kc_block_bytes(codec, options.head_dim));
    base = Memory(context_, static_cast<uint64_t>(int64_t(n) * n_pages_ * store.page_stride_bytes));
    store.base = base.data();
    if (codec == KC_CODEC_F16) return;
    store.first_stride_bytes =
        options.n_kv_heads * static_cast<int64_t>(kc_block_bytes(KC_CODEC_F16, options.head_dim));
    first = Memory(context_, static_cast<uint64_t>(n * store.first_stride_bytes));
    store.first = first.data();
    store.centre_stride = int64_t(options.n_kv_heads) * options.head_dim;
    centre = Memory(context_, static_cast<uint64_t>(n * store.centre_stride) * 4);
    store.centre = centre.data<float>();
}

// Sequence 0 is appended chunk by chunk; the others are copies of it in memory of their own, but for spilled rows,
// which they share: nothing caches those.
void DecodeLayer::fill() {
    const int32_t n = options.n_sequences;
    const bool spills = options.n_slots > 0;
    for (int32_t s = 0; s < n; ++s) {
        pages_.emplace_back();
        for (int32_t p = 0; p < n_pages_; ++p)
            pages_.back().push_back({p * KC_PAGE_TOKENS, s * n_pages_ + p, spills ? ~p : s * n_pages_ + p});
        if (spills) pages_.back().back().exact = s;
        kc_sequence_view view = {};
        view.n_pages = n_pages_;
        view.pages = pages_.back().data();
        view.first_row = s;
        view.n_rows = 1;
        view.n_past = options.n_context - 1;
        view.first_page = s;
        view.hot = s;
        sequences_.push_back(view);
    }

    const int64_t width = int64_t(options.n_kv_heads) * options.head_dim;
    const size_t n_in = static_cast<size_t>(std::max<int64_t>(kChunkPages * KC_PAGE_TOKENS, n) * width);
    rows_in_ = Memory(context_, 2 * n_in * 4);
    nonfinite_rows_ = Memory(context_, 8);
    Noise noise(3);
    for (int32_t begin = 0; begin < n_pages_; begin += kChunkPages) {
        const int32_t end = std::min(n_pages_, begin + kChunkPages);
        std::vector<kc_page_view> pages(pages_[0].begin(), pages_[0].begin() + end);
        for (int32_t p = begin; spills && p < end; ++p) pages[static_cast<size_t>(p)].exact = n + p - begin;
        kc_sequence_view view = sequences_[0];
        view.pages = pages.data();
        view.n_pages = end;
        view.n_past = begin * KC_PAGE_TOKENS;
        view.n_rows = (end - begin) * KC_PAGE_TOKENS;
        view.set_centre = begin == 0;
        rows_in_.write(noise.take(2 * n_in));
        kc_kv_append_params params = {};
        params.size = sizeof params;
        params.n_sequences = 1;
        params.layer = &layer_;
        params.sequences = &view;
        params.k = rows_in_.data<float>();
        params.v = rows_in_.data<float>() + n_in;
        params.n_nonfinite = nonfinite_rows_.data<uint64_t>();
        must(kc_kv_append(context_.handle, &params), "kc_kv_append");
        const kc_exact_store& exact = layer_.exact;
        for (int32_t p = begin; spills && p < end; ++p) {
            must(kc_spill_write(spill_, static_cast<uint64_t>(p * exact.spill_stride_bytes),
                                exact.base + (n + p - begin) * exact.slot_stride_bytes,
                                static_cast<uint64_t>(exact.slot_stride_bytes)),
                 "kc_spill_write");
        }
        context_.sync();
        for (int32_t s = 0; spills && end == n_pages_ && s < n; ++s) {
            copy_on_device(exact.base + s * exact.slot_stride_bytes,
                           exact.base + (n + end - 1 - begin) * exact.slot_stride_bytes,
                           static_cast<size_t>(exact.slot_stride_bytes));
        }
    }
    copy_to_all(layer_.k);
    if (layer_.v.base) copy_to_all(layer_.v);
    const int64_t own = n_pages_ * layer_.exact.slot_stride_bytes;
    for (int32_t s = 1; selects() && !spills && s < n; ++s)
        copy_on_device(layer_.exact.base + s * own, layer_.exact.base, static_cast<size_t>(own));
}

void DecodeLayer::copy_to_all(const kc_store& store) {
    const int64_t own = n_pages_ * store.page_stride_bytes;
    for (int32_t s = 1; s < options.n_sequences; ++s) {
        copy_on_device(store.base + s * own, store.base, static_cast<size_t>(own));
        if (!store.first) continue;
        copy_on_device(store.first + s * store.first_stride_bytes, store.first,
                       static_cast<size_t>(store.first_stride_bytes));
        copy_on_device(store.centre + s * store.centre_stride, store.centre,
                       static_cast<size_t>(store.centre_stride) * 4);
    }
}

kc_wave DecodeLayer::wave() const {
    kc_wave w = {};
    w.layer = &layer_;
    w.sequences = sequences_.data();
    w.queries = queries_.data();
    w.n_queries = options.n_sequences;
    w.n_sink = kSinks;
    w.n_recent = kRecent;
    w.kv_head_end = options.n_kv_heads;
    w.q = q_.data<float>() + int64_t(query_) * options.n_sequences * options.n_q_heads * options.head_dim;
    w.token_stride = options.n_context;
    return w;
}

void DecodeLayer::score() {
    const kc_wave w = wave();
    kc_attention_score_params params = {};
    params.size = sizeof params;
    params.wave = &w;
    params.scratch = scratch_.data();
    params.weights = weights_.data<float>();
    params.reference = reference_.data<float>();
    params.mass = mass_.data<float>();
    params.n_nonfinite = nonfinite_.data<int32_t>();
    must(kc_attention_score(context_.handle, &params), "kc_attention_score");
}

void DecodeLayer::select() {
    const kc_wave w = wave();
    kc_select_topn_params params = {};
    params.size = sizeof params;
    params.wave = &w;
    params.weights = weights_.data<float>();
    params.mass = mass_.data<float>();
    params.n_keep = params.n_keep_max = options.n_keep;
    params.kept_stride = kept_stride_;
    params.scratch = scratch_.data();
    params.kept = kept_.data<int32_t>();
    params.n_kept = n_kept_.data<int32_t>();
    params.n_selected = n_selected_.data<int32_t>();
    params.missed = missed_.data<int32_t>();
    must(kc_select_topn(context_.handle, &params), "kc_select_topn");
}

void DecodeLayer::restore() {
    const kc_wave w = wave();
    kc_row_restore_params params = {};
    params.size = sizeof params;
    params.wave = &w;
    params.hot = hot_.rows ? &hot_ : nullptr;
    params.kept = kept_.data<int32_t>();
    params.n_kept = n_kept_.data<int32_t>();
    params.kept_stride = kept_stride_;
    params.staging = staging_.n_bytes() ? staging_.data() : nullptr;
    params.scratch = restore_scratch_.data();
    params.rows = rows_.data<const uint8_t*>();
    params.n_restored = n_restored_.data<int32_t>();
    params.n_hot = n_hot_.data<int32_t>();
    must(kc_row_restore(context_.handle, &params), "kc_row_restore");
}

void DecodeLayer::mix() {
    const kc_wave w = wave();
    kc_attention_mix_params params = {};
    params.size = sizeof params;
    params.mode = options.policy == KC_POLICY_SKETCH ? KC_MIX_SKETCHED : KC_MIX_RENORMALIZED;
    params.wave = &w;
    params.weights = weights_.data<float>();
    params.reference = reference_.data<float>();
    params.mass = mass_.data<float>();
    if (selects()) {
        params.kept = kept_.data<int32_t>();
        params.n_kept = n_kept_.data<int32_t>();
        params.rows = rows_.data<const uint8_t*>();
        params.kept_stride = kept_stride_;
        params.tail = tail_.data<float>();
        params.error = error_.data<float>();
    }
    params.scratch = scratch_.data();
    params.out = out_.data<float>();
    must(kc_attention_mix(context_.handle, &params), "kc_attention_mix");
}

void DecodeLayer::step() {
    next_query();
    score();
    if (selects()) {
        select();
        restore();
    }
    mix();
}

void DecodeLayer::append() {
    kc_kv_append_params params = {};
    params.size = sizeof params;
    params.n_sequences = options.n_sequences;
    params.layer = &layer_;
    params.sequences = sequences_.data();
    params.k = rows_in_.data<float>();
    params.v = rows_in_.data<float>();
    params.n_nonfinite = nonfinite_rows_.data<uint64_t>();
    must(kc_kv_append(context_.handle, &params), "kc_kv_append");
}

void DecodeLayer::prompt(int n) {
    kc_sequence_view view = sequences_[0];
    view.n_rows = n;
    view.n_past = options.n_context - n;
    kc_attention_full_params params = {};
    params.size = sizeof params;
    params.n_sequences = 1;
    params.layer = &layer_;
    params.sequences = &view;
    params.n_recent = -1;
    params.kv_head_end = options.n_kv_heads;
    params.q = q_.data<float>();
    params.scratch = scratch_.data();
    params.out = out_.data<float>();
    must(kc_attention_full(context_.handle, &params), "kc_attention_full");
}

void DecodeLayer::drop_hot() {
    for (int32_t s = 0; s < options.n_sequences; ++s)
        must(kc_hot_drop(context_.handle, &hot_, options.n_kv_heads, s, 0), "kc_hot_drop");
}

int64_t DecodeLayer::key_bytes() const { return int64_t(options.n_sequences) * n_pages_ * layer_.k.page_stride_bytes; }
int64_t DecodeLayer::score_bytes() const {
    return int64_t(options.n_sequences) * options.n_q_heads * options.n_context * 4;
}
int64_t DecodeLayer::value_bytes() const {
    return layer_.v.base ? int64_t(options.n_sequences) * n_pages_ * layer_.v.page_stride_bytes : 0;
}

namespace {
int64_t sum(const Memory& counts) {
    int64_t total = 0;
    for (const int32_t n : counts.read<int32_t>()) total += n;
    return total;
}
}  // namespace

int64_t DecodeLayer::rows_restored() const { return sum(n_restored_); }
int64_t DecodeLayer::rows_hot() const { return sum(n_hot_); }

}  // namespace bench
