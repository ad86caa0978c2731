#include "cpu/kernels/select_topn.h"

#include <algorithm>

#include "cpu/kernels/select_list.h"
#include "cpu/kernels/wave_lists.h"

namespace kc {
namespace {

// Lists that are worked on at one time, per thread: enough to share them out evenly.
constexpr int64_t kListsPerThread = 4;

// The choice for the lists of a wave, as many at a time as there is scratch for.
struct Choice {
    CpuContext& context;
    const kc_select_topn_params& params;
    const WaveLists lists;
    int64_t group;
    int64_t scratch_stride;
    int64_t first = 0;  // of the lists that are worked on

    SelectScratch scratch_of(int64_t list) const {
        SelectScratch scratch;
        SelectScratch::carve(group, lists.wave.token_stride,
                             static_cast<uint8_t*>(params.scratch) + (list - first) * scratch_stride, &scratch);
        return scratch;
    }
    Selection selection_of(int64_t list, SelectScratch& scratch) const {
        const kc_wave& wave = lists.wave;
        const kc_query_view& view = lists.view_of(list);
        const int64_t head = lists.place_of(list) * group;
        const int64_t n_sink = std::min(wave.n_sink, view.n_visible);
        return {params,
                *context.kernels,
                scratch,
                group,
                params.weights + head * wave.token_stride,
                params.mass + head,
                int64_t{lists.sequence_of(list).n_pages} * kPageTokens,
                n_sink,
                std::max<int64_t>(n_sink, view.n_visible - wave.n_recent),
                view.n_visible,
                params.tail == nullptr ? nullptr : params.tail + head,
                params.error == nullptr ? nullptr : params.error + head};
    }
    // work(selection, span) for every span of lists [first, first + n).
    template <class Work>
    void over_spans(int64_t n, Work&& work) const {
        lists.over_spans(context.pool, first, n, [&](int64_t list, int64_t span) {
            SelectScratch scratch = scratch_of(list);
            Selection selection = selection_of(list, scratch);
            work(selection, span);
        });
    }
    // work(list) for lists [first, first + n).
    template <class Work>
    void over_lists(int64_t n, Work&& work) const {
        context.pool.run(n, 1, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) work(first + i);
        });
    }
    void begin(int64_t list) const;
    void choose_by_group(int64_t n) const;
    void choose_by_head(int64_t n) const;
    void settle(int64_t n) const;
    void list_chosen(int64_t list, const Selection& selection) const;
    void finish(int64_t list, Selection& selection) const;
};

void Choice::begin(int64_t list) const {
    const SelectScratch scratch = scratch_of(list);
    for (int64_t h = 0; h < group; ++h) {
        const float mass = params.mass[lists.place_of(list) * group + h];
        scratch.factors[h] = mass > 0.f ? 1.f / mass : 0.f;
    }
}

// The n_keep best by the group's weights, sinks and recent ones. Whoever made the weights of some spans looks for the
// best of these, so that next to nothing goes from core to core.
void Choice::choose_by_group(int64_t n) const {
    lists.over_parts(
        context.pool, first, n,
        [&](int64_t list, const SpanPart& part) {
            SelectScratch scratch = scratch_of(list);
            selection_of(list, scratch).find(part, params.n_keep);
        },
        [&](int64_t list) {
            SelectScratch scratch = scratch_of(list);
            Selection selection = selection_of(list, scratch);
            *scratch.n_chosen = selection.keep_found(lists.n_parts(context.pool), params.n_keep);
            if (params.tail == nullptr) list_chosen(list, selection);
        });
    if (params.tail != nullptr) settle(n);
}

// The list of what was chosen, where nothing comes to it.
void Choice::list_chosen(int64_t list, const Selection& selection) const {
    const int64_t n_chosen = *selection.scratch.n_chosen;
    int32_t* kept = params.kept + lists.place_of(list) * params.kept_stride;
    const int32_t* begin = kept;
    for (int64_t token = 0; token < selection.first; ++token) *kept++ = static_cast<int32_t>(token);
    kept = std::copy_n(selection.scratch.tokens, n_chosen, kept);
    for (int64_t token = selection.last; token < selection.n_visible; ++token) *kept++ = static_cast<int32_t>(token);
    params.n_kept[lists.place_of(list)] = static_cast<int32_t>(kept - begin);
    params.n_selected[lists.place_of(list)] = static_cast<int32_t>(n_chosen);
    params.missed[lists.place_of(list)] = 0;
}

// The n_keep best of every head, sinks and recent ones.
void Choice::choose_by_head(int64_t n) const {
    over_lists(n, [&](int64_t list) {
        SelectScratch scratch = scratch_of(list);
        Selection selection = selection_of(list, scratch);
        std::fill_n(scratch.chosen, selection.n_pages(), uint64_t{0});
        // Each head chooses as if it were alone: what another head chose is marked, but still a candidate.
        for (int64_t h = 0; h < group; ++h) {
            const int64_t n_best = selection.best(h, 1, params.n_keep, nullptr);
            for (int64_t i = 0; i < n_best; ++i) {
                scratch.chosen[scratch.tokens[i] / kPageTokens] |= uint64_t{1} << scratch.tokens[i] % kPageTokens;
            }
        }
        *scratch.n_chosen = 0;
        for (int64_t page = 0; page < selection.n_pages(); ++page) {
            scratch.kept[page] = scratch.chosen[page] | selection.forced_of(page);
            *scratch.n_chosen += __builtin_popcountll(scratch.chosen[page]);
        }
        if (params.tail == nullptr) finish(list, selection);
    });
    if (params.tail != nullptr) settle(n);
}

// The sums outside, and what becomes of the lists by them.
void Choice::settle(int64_t n) const {
    over_spans(n, [](Selection& s, int64_t span) { s.sum_outside(span); });
    over_lists(n, [&](int64_t list) {
        SelectScratch scratch = scratch_of(list);
        Selection selection = selection_of(list, scratch);
        finish(list, selection);
    });
}

// Further ones until the bounds hold; the list.
void Choice::finish(int64_t list, Selection& selection) const {
    params.missed[lists.place_of(list)] = selection.grow(params.n_keep_max - *selection.scratch.n_chosen) ? 0 : 1;
    int32_t* kept = params.kept + lists.place_of(list) * params.kept_stride;
    int32_t n_kept = 0;
    for (int64_t page = 0; page < selection.n_pages(); ++page) {
        for (uint64_t left = selection.scratch.kept[page]; left != 0; left &= left - 1) {
            kept[n_kept++] = static_cast<int32_t>(page * kPageTokens + __builtin_ctzll(left));
        }
    }
    params.n_kept[lists.place_of(list)] = n_kept;
    params.n_selected[lists.place_of(list)] =
        n_kept - static_cast<int32_t>(selection.first + selection.n_visible - selection.last);
}

int64_t lists_at_a_time(const CpuContext& context, int64_t n_lists) {
    return std::min<int64_t>(n_lists, context.pool.n_threads() * kListsPerThread);
}

}  // namespace

uint64_t select_topn_scratch_bytes(CpuContext& context, const kc_layer_view& layer, int64_t n_queries,
                                   int64_t token_stride) {
    SelectScratch scratch;
    const int64_t bytes = SelectScratch::carve(layer.n_q_heads / layer.n_kv_heads, token_stride, nullptr, &scratch);
    return static_cast<uint64_t>(lists_at_a_time(context, n_queries * layer.n_kv_heads) * bytes);
}

void select_topn(CpuContext& context, const kc_select_topn_params& params) {
    const kc_wave& wave = *params.wave;
    Choice choice{context, params, {wave}, wave.layer->n_q_heads / wave.layer->n_kv_heads, 0};
    SelectScratch unused;
    choice.scratch_stride = SelectScratch::carve(choice.group, wave.token_stride, nullptr, &unused);
    const int64_t n_lists = choice.lists.n();
    const int64_t n_at_a_time = lists_at_a_time(context, n_lists);
    for (; choice.first < n_lists; choice.first += n_at_a_time) {
        const int64_t n = std::min(n_at_a_time, n_lists - choice.first);
        for (int64_t i = 0; i < n; ++i) choice.begin(choice.first + i);
        if (params.select == KC_SELECT_GROUP) {
            choice.choose_by_group(n);
        } else {
            choice.choose_by_head(n);
        }
    }
}

}  // namespace kc
