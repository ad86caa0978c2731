// One list of select_topn: what its tokens weigh together, the best of them, what is left outside.
#pragma once

#include "cpu/context.h"
#include "cpu/kernels/layout.h"
#include "cpu/kernels/wave_lists.h"

namespace kc {

// What whoever looks through some spans of a list leaves to whoever puts the list together. On a line of its own, as
// all that goes from core to core: a line that two cores write takes longer than the work on a span.
struct Found {
    int64_t begin;  // in scratch.tokens
    int64_t n;
    float bound;  // that all of them reach, and the best of these spans
    float reserved[11];
};
static_assert(sizeof(Found) == 64);

// What lies outside of what is kept of a span. Behind it, for every head of the group, the sums of its weights and of
// their squares.
struct SpanRest {
    int32_t is_stale;  // the sums do not know all that is kept
    int32_t reserved;

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
    Found* found;          // [spans + 1]
    uint8_t* spans;        // [spans], SpanRest
    int64_t* n_chosen;     // without sinks and recent ones
    float* factors;        // [group]: 1 / mass
    double* rest;          // [group]: the sum outside, as it shrinks
    double* rest_squares;  // [group]
    double* rest_then;     // [group]: the same when last measured
    double* squares_then;  // [group]

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
        s->found =
            reinterpret_cast<Found*>(take((ceil_div(n_pages, kSpanPages) + 1) * static_cast<int64_t>(sizeof(Found))));
        s->spans = take(ceil_div(n_pages, kSpanPages) * SpanRest::stride_bytes(group));
        s->n_chosen = reinterpret_cast<int64_t*>(take(8));
        s->factors = reinterpret_cast<float*>(take(group * 4));
        s->rest = reinterpret_cast<double*>(take(group * 8));
        s->rest_squares = reinterpret_cast<double*>(take(group * 8));
        s->rest_then = reinterpret_cast<double*>(take(group * 8));
        s->squares_then = reinterpret_cast<double*>(take(group * 8));
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

    // Tokens of a page that may be chosen; that are kept without a choice.
    uint64_t candidates_of(int64_t page) const;
    uint64_t forced_of(int64_t page) const;
    int64_t n_spans() const { return ceil_div(n_pages(), kSpanPages); }
    SpanRest& rest_of(int64_t span) const {
        return *reinterpret_cast<SpanRest*>(scratch.spans + span * SpanRest::stride_bytes(group));
    }
    // The weights by which the heads [head, head + n_heads) choose among the candidates of pages [begin, end) that are
    // not taken (a word a page, or nullptr), and their maxima; the weights of others become kNoCandidate.
    void rank(int64_t head, int64_t n_heads, int64_t begin, int64_t end, const uint64_t* taken);
    // What the n best of pages [begin, end) reach, and few others.
    float find_bound(int64_t begin, int64_t end, int64_t n);
    // Those of pages [begin, end) that reach a bound, to scratch.tokens from `at` on; returns how many.
    int64_t collect(int64_t begin, int64_t end, float bound, int64_t at);
    // The n best of the first n_found of scratch.tokens, all that reach the bound, to its front, in their order.
    // Returns how many they are.
    int64_t keep_best(int64_t n, int64_t n_found, float bound);
    // The n best candidates of the heads that are not taken to the front of scratch.tokens, ascending; returns how many
    // there were.
    int64_t best(int64_t head, int64_t n_heads, int64_t n, const uint64_t* taken);
    // Leaves the n best by the group's weights of a part of the spans, and few others.
    void find(const SpanPart& part, int64_t n);
    // Keeps the n best of what was found in n_parts parts, and what is forced; returns how many there were.
    int64_t keep_found(int64_t n_parts, int64_t n);
    // The sums outside of a span, from what is kept now.
    void sum_outside(int64_t span);
    // Reports tail and error; returns whether every head keeps the bounds.
    bool measure();
    // Whether the bounds may hold by the running sums, which are a little off, or these may be far off: `measure`
    // decides.
    bool near_bounds() const;
    // Further candidates in the order of the group's weight until the bounds hold; returns whether they do.
    bool grow(int64_t n_more);
};

}  // namespace kc
