// One list of select_topn: what its tokens weigh together, the best of them, what is left outside.
#pragma once

#include "cpu/context.h"
#include "cpu/kernels/layout.h"

namespace kc {

// What whoever works on a span leaves to the list. Behind it, for every head of the group, the sums of its weights
// outside and of their squares. On lines of its own: a line that two cores write takes longer than the work on a span.
struct SpanRest {
    int32_t n_found;   // candidates
    int32_t is_stale;  // the sums do not know all that is kept

    static int64_t stride_bytes(int64_t group) {
        return round_up(static_cast<int64_t>(sizeof(SpanRest)) + group * 2 * static_cast<int64_t>(sizeof(double)), 64);
    }
    double* sums() { return reinterpret_cast<double*>(this + 1); }
    double* squares(int64_t group) { return sums() + group; }
};

// The scratch of one list, carved. A bit of a page's word is a token.
struct SelectScratch {
    float* sums;           // [tokens], the group's weights or those of one head
    float* maxima;         // [pages, 4], of the candidates among 16 tokens each
    float* weights;        // [tokens], of candidates that were found
    int32_t* tokens;       // [tokens], of the same
    uint64_t* kept;        // [pages]
    uint64_t* chosen;      // [pages], among the best of a head
    uint8_t* spans;        // [spans], SpanRest
    float* bound;          // that the best reach
    float* factors;        // [group]: 1 / mass
    double* rest;          // [group]: the sum outside, as it shrinks
    double* rest_squares;  // [group]

    static int64_t carve(int64_t group, int64_t n_tokens, uint8_t* base, SelectScratch* s) {
        int64_t at = 0;
        const auto take = [&](int64_t n_bytes) {
            uint8_t* p = base == nullptr ? nullptr : base + at;
            at += round_up(n_bytes, 64);
            return p;
        };
        const int64_t n_pages = n_tokens / kPageTokens;
        s->sums = reinterpret_cast<float*>(take(n_tokens * 4));
        s->maxima = reinterpret_cast<float*>(take(n_pages * 16));
        s->weights = reinterpret_cast<float*>(take(n_tokens * 4));
        s->tokens = reinterpret_cast<int32_t*>(take(n_tokens * 4));
        s->kept = reinterpret_cast<uint64_t*>(take(n_pages * 8));
        s->chosen = reinterpret_cast<uint64_t*>(take(n_pages * 8));
        s->spans = take(ceil_div(n_pages, kSpanPages) * SpanRest::stride_bytes(group));
        s->bound = reinterpret_cast<float*>(take(4));
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
    int64_t n_visible;
    float* tail;   // [group]; nullptr: what lies outside is not asked for
    float* error;  // [group], likewise

    int64_t n_pages() const { return n_tokens / kPageTokens; }

    // Tokens of a page that may still be chosen; that are kept without a choice.
    uint64_t candidates_of(int64_t page) const;
    uint64_t forced_of(int64_t page) const;
    int64_t n_spans() const { return ceil_div(n_pages(), kSpanPages); }
    SpanRest& rest_of(int64_t span) const {
        return *reinterpret_cast<SpanRest*>(scratch.spans + span * SpanRest::stride_bytes(group));
    }
    // The weights by which the heads [head, head + n_heads) choose among the tokens of pages [begin, end).
    void rank(int64_t head, int64_t n_heads, int64_t begin, int64_t end);
    // The maxima of the candidates alone, in pages [begin, end); the weights of others become kNoCandidate.
    void mask(int64_t begin, int64_t end);
    // What the n best candidates reach, and few others.
    float find_bound(int64_t n);
    // The candidates of pages [begin, end) that reach a bound, to scratch.tokens from `at` on; returns how many.
    int64_t collect(int64_t begin, int64_t end, float bound, int64_t at);
    // The n best of the first n_found of scratch.tokens, all that reach the bound, to its front, as they stand. The
    // others behind them, in any order. Returns how many are best.
    int64_t keep_best(int64_t n, int64_t n_found, float bound);
    // The n best candidates to the front of scratch.tokens, ascending; returns how many there were.
    int64_t best(int64_t n);
    // Keeps those of a span that reach the bound, as if all of them were chosen, and what is forced.
    void keep_reaching(int64_t span);
    // Keeps the n best of these alone; returns how many there were.
    int64_t keep_best_reaching(int64_t n);
    // The sums outside of a span, from what is kept now, where they are asked for.
    void sum_outside(int64_t span);
    // Reports tail and error; returns whether every head keeps the bounds.
    bool measure();
    // Whether the bounds may hold by the running sums, which are a little off: `measure` decides.
    bool near_bounds() const;
    // Further candidates in the order of the group's weight until the bounds hold; returns whether they do.
    bool grow(int64_t n_more);
};

}  // namespace kc
