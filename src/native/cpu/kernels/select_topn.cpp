#include "cpu/kernels/select_topn.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "cpu/context.h"
#include "cpu/kernels/layout.h"

namespace kc {
namespace {

constexpr int64_t kChunk = 16;
// Below every weight and below NaN, which ranks as -1: not a candidate, or taken already.
constexpr float kNoCandidate = -2.f;
// Marks of a token: kept, or among the best of a head.
constexpr uint8_t kKept = 1;
constexpr uint8_t kChosen = 2;

struct Candidate {
    float weight;
    int32_t token;
};

bool better(const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

// The scratch of one thread, carved.
struct SelectScratch {
    float* weights;         // [tokens], of the group or of one head; kNoCandidate where none
    float* maxima;          // [chunks]
    float* sorted_maxima;   // [chunks]
    Candidate* candidates;  // [tokens]
    uint8_t* kept;          // [tokens]: kKept, kChosen or 0
    float* page_sums;       // [group, pages]: of the weights outside
    float* page_squares;    // [group, pages]
    float* factors;         // [group]: 1 / mass
    double* rest;           // [group]: the sum outside, as it shrinks
    double* rest_squares;   // [group]

    static int64_t carve(int64_t group, int64_t n_tokens, uint8_t* base, SelectScratch* s) {
        int64_t at = 0;
        const auto take = [&](int64_t n_bytes) {
            uint8_t* p = base == nullptr ? nullptr : base + at;
            at += round_up(n_bytes, 64);
            return p;
        };
        const int64_t n_chunks = n_tokens / kChunk, n_pages = n_tokens / kPageTokens;
        s->weights = reinterpret_cast<float*>(take(n_tokens * 4));
        s->maxima = reinterpret_cast<float*>(take(n_chunks * 4));
        s->sorted_maxima = reinterpret_cast<float*>(take(n_chunks * 4));
        s->candidates = reinterpret_cast<Candidate*>(take(n_tokens * static_cast<int64_t>(sizeof(Candidate))));
        s->kept = take(n_tokens);
        s->page_sums = reinterpret_cast<float*>(take(group * n_pages * 4));
        s->page_squares = reinterpret_cast<float*>(take(group * n_pages * 4));
        s->factors = reinterpret_cast<float*>(take(group * 4));
        s->rest = reinterpret_cast<double*>(take(group * 8));
        s->rest_squares = reinterpret_cast<double*>(take(group * 8));
        return at;
    }
};

// One query and KV head.
struct Selection {
    const kc_select_topn_params& params;
    const Kernels& kernels;
    SelectScratch& scratch;
    int64_t group;
    const float* weights;  // [group, token_stride]
    const float* mass;     // [group]
    int64_t n_tokens;      // of the view, a multiple of 64
    int64_t first;         // candidates are tokens [first, last)
    int64_t last;
    float* tail;   // [group]
    float* error;  // [group]

    int64_t n_pages() const { return n_tokens / kPageTokens; }

    void refresh_chunk(int64_t chunk) {
        const float* w = scratch.weights + chunk * kChunk;
        scratch.maxima[chunk] = *std::max_element(w, w + kChunk);
    }

    // Candidate weights of the heads [head, head + n_heads), summed; what is kept already is no candidate.
    void rank(int64_t head, int64_t n_heads) {
        kernels.select_topn.group_sums(weights + head * params.wave->token_stride, params.wave->token_stride,
                                       scratch.factors + head, n_heads, n_tokens, scratch.weights, scratch.maxima);
        for (int64_t page = 0; page < n_pages(); ++page) {
            const uint8_t* kept = scratch.kept + page * kPageTokens;
            const bool inside = page * kPageTokens >= first && (page + 1) * kPageTokens <= last;
            if (inside && std::memchr(kept, kKept, kPageTokens) == nullptr) continue;
            for (int64_t i = page * kPageTokens; i < (page + 1) * kPageTokens; ++i) {
                if (i < first || i >= last || scratch.kept[i] == kKept) scratch.weights[i] = kNoCandidate;
            }
            for (int64_t c = 0; c < kPageTokens / kChunk; ++c) refresh_chunk(page * kPageTokens / kChunk + c);
        }
    }

    // The n best candidates to the front of scratch.candidates, in no order; returns how many there were.
    int64_t best(int64_t n) {
        if (n <= 0) return 0;
        const int64_t n_chunks = n_tokens / kChunk;
        // The n-th largest of the chunks' maxima: n candidates are no worse, so none below it is among the best.
        float bound = kNoCandidate;
        if (n < n_chunks) {
            std::copy_n(scratch.maxima, n_chunks, scratch.sorted_maxima);
            std::nth_element(scratch.sorted_maxima, scratch.sorted_maxima + n - 1, scratch.sorted_maxima + n_chunks,
                             std::greater<float>());
            bound = scratch.sorted_maxima[n - 1];
        }
        int64_t n_found = 0;
        for (int64_t c = 0; c < n_chunks; ++c) {
            if (scratch.maxima[c] < bound || scratch.maxima[c] == kNoCandidate) continue;
            for (int64_t i = c * kChunk; i < (c + 1) * kChunk; ++i) {
                const float weight = scratch.weights[i];
                if (weight < bound || weight == kNoCandidate) continue;
                scratch.candidates[n_found++] = {weight, static_cast<int32_t>(i)};
            }
        }
        if (n_found <= n) return n_found;
        std::nth_element(scratch.candidates, scratch.candidates + n, scratch.candidates + n_found, better);
        return n;
    }

    // The sums outside of one page, from what is kept now.
    void refresh_page(int64_t page) {
        const uint8_t* kept = scratch.kept + page * kPageTokens;
        const bool all_outside = std::memchr(kept, kKept, kPageTokens) == nullptr;
        for (int64_t h = 0; h < group; ++h) {
            const float* w = weights + h * params.wave->token_stride + page * kPageTokens;
            float outside[kPageTokens];
            if (!all_outside) {
                for (int t = 0; t < kPageTokens; ++t) outside[t] = kept[t] == kKept ? 0.f : w[t];
                w = outside;
            }
            kernels.attention_score.sums(w, scratch.page_sums + h * n_pages() + page,
                                         scratch.page_squares + h * n_pages() + page);
        }
    }

    // Reports tail and error; returns whether every head keeps the bounds.
    bool measure() {
        bool kept = true;
        for (int64_t h = 0; h < group; ++h) {
            double sum = 0., squares = 0.;
            for (int64_t page = 0; page < n_pages(); ++page) {
                sum += scratch.page_sums[h * n_pages() + page];
                squares += scratch.page_squares[h * n_pages() + page];
            }
            scratch.rest[h] = sum * scratch.factors[h];
            scratch.rest_squares[h] = squares * scratch.factors[h] * scratch.factors[h];
            tail[h] = static_cast<float>(scratch.rest[h]);
            error[h] = static_cast<float>(std::sqrt(scratch.rest_squares[h]));
            if (params.max_tail > 0.f && !(tail[h] <= params.max_tail)) kept = false;
            if (params.max_error > 0.f && !(error[h] <= params.max_error)) kept = false;
        }
        return kept;
    }

    // Whether the bounds may hold by the running sums, which are a little off: `measure` decides.
    bool near_bounds() const {
        constexpr double kSlack = 1. + 1e-4;
        for (int64_t h = 0; h < group; ++h) {
            if (params.max_tail > 0.f && scratch.rest[h] > params.max_tail * kSlack) return false;
            if (params.max_error > 0.f && scratch.rest_squares[h] > kSlack * params.max_error * params.max_error) {
                return false;
            }
        }
        return true;
    }

    // Further candidates in the order of the group's weight until the bounds hold; returns whether they do.
    bool grow(int64_t n_more) {
        if (measure()) return true;
        rank(0, group);
        for (int64_t batch = 64; n_more > 0; batch *= 2) {
            const int64_t n = best(std::min(batch, n_more));
            if (n == 0) return false;
            std::sort(scratch.candidates, scratch.candidates + n, better);
            for (int64_t i = 0; i < n; ++i) {
                const int32_t token = scratch.candidates[i].token;
                scratch.kept[token] = kKept;
                refresh_page(token / kPageTokens);
                scratch.weights[token] = kNoCandidate;
                refresh_chunk(token / kChunk);
                --n_more;
                for (int64_t h = 0; h < group; ++h) {
                    const double w =
                        static_cast<double>(weights[h * params.wave->token_stride + token]) * scratch.factors[h];
                    scratch.rest[h] -= w;
                    scratch.rest_squares[h] -= w * w;
                }
                if (near_bounds() && measure()) return true;
            }
        }
        return measure();
    }
};

void select_one(CpuContext& context, const kc_select_topn_params& params, int64_t query, int64_t kv_head,
                SelectScratch& scratch) {
    const kc_wave& wave = *params.wave;
    const kc_layer_view& layer = *wave.layer;
    const kc_query_view& view = wave.queries[query];
    const int64_t group = layer.n_q_heads / layer.n_kv_heads;
    const int64_t head = query * layer.n_q_heads + kv_head * group;
    const int64_t list = query * layer.n_kv_heads + kv_head;
    const int64_t n_sink = std::min(wave.n_sink, view.n_visible);
    const int64_t recent = std::max<int64_t>(n_sink, view.n_visible - wave.n_recent);
    Selection selection{params,
                        *context.kernels,
                        scratch,
                        group,
                        params.weights + head * wave.token_stride,
                        params.mass + head,
                        int64_t{wave.sequences[view.sequence].n_pages} * kPageTokens,
                        n_sink,
                        recent,
                        params.tail + head,
                        params.error + head};
    for (int64_t h = 0; h < group; ++h) {
        scratch.factors[h] = selection.mass[h] > 0.f ? 1.f / selection.mass[h] : 0.f;
    }
    std::memset(scratch.kept, 0, static_cast<size_t>(selection.n_tokens));
    const bool each = params.select == KC_SELECT_UNION;
    for (int64_t h = 0; h < (each ? group : 1); ++h) {
        // Each head chooses as if it were alone: what another head chose is marked, but still a candidate.
        selection.rank(h, each ? 1 : group);
        const int64_t n = selection.best(params.n_keep);
        for (int64_t i = 0; i < n; ++i) scratch.kept[scratch.candidates[i].token] = kChosen;
    }
    int64_t n_selected = 0;
    for (int64_t i = selection.first; i < selection.last; ++i) {
        if (scratch.kept[i] != kChosen) continue;
        scratch.kept[i] = kKept;
        ++n_selected;
    }
    std::memset(scratch.kept, kKept, static_cast<size_t>(n_sink));
    std::memset(scratch.kept + recent, kKept, static_cast<size_t>(view.n_visible - recent));
    for (int64_t page = 0; page < selection.n_pages(); ++page) selection.refresh_page(page);
    params.missed[list] = selection.grow(params.n_keep_max - n_selected) ? 0 : 1;

    int32_t* kept = params.kept + list * params.kept_stride;
    int32_t n_kept = 0;
    for (int64_t i = 0; i < view.n_visible; ++i) {
        if (scratch.kept[i] != 0) kept[n_kept++] = static_cast<int32_t>(i);
    }
    params.n_kept[list] = n_kept;
    params.n_selected[list] = n_kept - static_cast<int32_t>(n_sink + view.n_visible - recent);
}

}  // namespace

uint64_t select_topn_scratch_bytes(CpuContext& context, const kc_layer_view& layer, int64_t, int64_t token_stride) {
    SelectScratch scratch;
    const int64_t bytes = SelectScratch::carve(layer.n_q_heads / layer.n_kv_heads, token_stride, nullptr, &scratch);
    return static_cast<uint64_t>(context.pool.n_threads() * bytes);
}

void select_topn(CpuContext& context, const kc_select_topn_params& params) {
    const kc_wave& wave = *params.wave;
    const int64_t group = wave.layer->n_q_heads / wave.layer->n_kv_heads;
    const int64_t n_heads = wave.kv_head_end - wave.kv_head_begin;
    SelectScratch unused;
    const int64_t stride = SelectScratch::carve(group, wave.token_stride, nullptr, &unused);
    context.pool.run(wave.n_queries * n_heads, 1, [&](int64_t begin, int64_t end, int worker) {
        SelectScratch scratch;
        SelectScratch::carve(group, wave.token_stride, static_cast<uint8_t*>(params.scratch) + worker * stride,
                             &scratch);
        for (int64_t i = begin; i < end; ++i) {
            select_one(context, params, i / n_heads, wave.kv_head_begin + i % n_heads, scratch);
        }
    });
}

}  // namespace kc
