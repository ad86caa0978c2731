// The lists of a wave, one per query and KV head, and how their spans are shared out to threads.
#pragma once

#include <algorithm>
#include <atomic>

#include "cpu/kernels/layout.h"
#include "cpu/parallel.h"

namespace kc {

// Some of the spans of a list, [begin, end), and perhaps the last one.
struct SpanPart {
    int64_t begin;
    int64_t end;
    int64_t last;    // of all lists
    int64_t number;  // of n
    int64_t n;

    bool has_last() const { return number == 0; }
};

struct WaveLists {
    const kc_wave& wave;

    int64_t n_spans() const { return ceil_div(wave.token_stride, kSpanTokens); }
    int64_t n_heads() const { return wave.kv_head_end - wave.kv_head_begin; }
    int64_t n() const { return wave.n_queries * n_heads(); }
    int64_t query_of(int64_t list) const { return list / n_heads(); }
    int32_t head_of(int64_t list) const { return wave.kv_head_begin + static_cast<int32_t>(list % n_heads()); }
    // Where the list stands among those of all KV heads.
    int64_t place_of(int64_t list) const { return query_of(list) * wave.layer->n_kv_heads + head_of(list); }
    const kc_query_view& view_of(int64_t list) const { return wave.queries[query_of(list)]; }
    const kc_sequence_view& sequence_of(int64_t list) const { return wave.sequences[view_of(list).sequence]; }

    // work(list, last list, span) for every span of lists [first, first + count), for as many heads of a query at a
    // time as leaves enough to share out: the blocks of a page's heads lie side by side, and memory is fastest where it
    // is read in one go. All stems cut in this way, so that the weights of a span most often stay with the core that
    // made them. The last span, which is rarely whole, comes first, so that the others are left in equal shares.
    template <class Work>
    void over_span_heads(ThreadPool& pool, int64_t first, int64_t count, Work&& work) const {
        const int64_t n_spans = this->n_spans();
        const int64_t grain = std::clamp<int64_t>(count * n_spans / (4 * pool.n_threads()), 1, n_heads());
        pool.run(
            count * n_spans, grain,
            [&](int64_t begin, int64_t end, int) {
                for (int64_t i = begin, n; i < end; i += n) {
                    const int64_t list = first + i % count, span = (i / count + n_spans - 1) % n_spans;
                    n = std::min({end - i, n_heads() - list % n_heads(), first + count - list});
                    if (span * kSpanPages < sequence_of(list).n_pages) work(list, list + n, span);
                }
            },
            Stealing::kLate);
    }
    // work(list, span) likewise.
    template <class Work>
    void over_spans(ThreadPool& pool, int64_t first, int64_t count, Work&& work) const {
        over_span_heads(pool, first, count, [&](int64_t list, int64_t last, int64_t span) {
            for (; list < last; ++list) work(list, span);
        });
    }
    // work(list, part) for the same lists, whose spans are cut into the parts that one thread each has above; then
    // finish(list) by whoever did the last part of the list.
    template <class Work, class Finish>
    void over_parts(ThreadPool& pool, int64_t first, int64_t count, Work&& work, Finish&& finish) const {
        constexpr int64_t kAtATime = 64;
        const int64_t n = n_parts(pool), last = n_spans() - 1;
        const auto begin_of = [&](int64_t part) { return std::max<int64_t>(0, ceil_div((last + 1) * part, n) - 1); };
        std::atomic<int64_t> left[kAtATime];
        for (const int64_t end_of_all = first + count; first < end_of_all; first += kAtATime) {
            const int64_t n_lists = std::min(kAtATime, end_of_all - first);
            for (int64_t i = 0; i < n_lists; ++i) left[i].store(n, std::memory_order_relaxed);
            pool.run(
                n_lists * n, 1,
                [&](int64_t begin, int64_t end, int) {
                    for (int64_t i = begin; i < end; ++i) {
                        const int64_t at = i % n_lists, part = i / n_lists;
                        work(first + at, SpanPart{begin_of(part), begin_of(part + 1), last, part, n});
                        if (left[at].fetch_sub(1, std::memory_order_acq_rel) == 1) finish(first + at);
                    }
                },
                Stealing::kLate);
        }
    }
    int64_t n_parts(const ThreadPool& pool) const { return std::min<int64_t>(pool.n_threads(), n_spans()); }
};

}  // namespace kc
