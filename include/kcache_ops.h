/* KCacheNative, the kernels: one function per stem, for models, tests and benchmarks.
 *
 *   elementwise: rms_norm, rope_table, rope, swiglu, add, embed, softmax, argmax      matmul
 *   kv_append   attention_full   attention_score   select_topn   row_restore   attention_mix
 *
 * The first row is what a model calls beside a kc_cache. The second row is what a kc_cache calls itself
 * (kc_cache_append and kc_cache_attend of kcache.h); it stands here for tests, benchmarks, and for those who keep a
 * cache of their own.
 *
 * All pointers are addresses of the context's backend (kc_buffer_data; on the CPU any host memory). Floats are 32 bits,
 * rows adjacent unless a stride says otherwise. Outputs must not overlap inputs unless a comment allows it. Results do
 * not depend on threads or on how rows are batched. Errors: ARGUMENT for impossible shapes and NULL pointers; nothing
 * else unless said.
 */
#ifndef KCACHE_OPS_H
#define KCACHE_OPS_H

#include "kcache.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Types of weights, numbered as in GGUF; the block types hold 32 weights a block, laid out as GGUF files hold them. */
enum { KC_TYPE_F32 = 0, KC_TYPE_F16 = 1, KC_TYPE_Q4_0 = 2, KC_TYPE_Q4_1 = 3, KC_TYPE_Q8_0 = 8, KC_TYPE_BF16 = 30 };

/* Weights [n_rows, n_cols], rows adjacent; data needs no alignment. */
typedef struct kc_matrix {
    const void* data;
    int64_t n_rows;
    int64_t n_cols;
    int32_t type; /* KC_TYPE_* */
    int32_t reserved;
} kc_matrix;

/* Bytes of a matrix; 0 where the type is unknown or n_cols is not a multiple of the type's block. Any thread. */
KC_API uint64_t kc_matrix_bytes(int32_t type, int64_t n_rows, int64_t n_cols);

/* ------------------------------------------------------------------------------------------------------ elementwise */

/* out[t, i] = x[t, i] / sqrt(mean over i of x[t, i]^2 + eps) * weight[i]; x, out [n_tokens, dim]; out may be x. */
KC_API kc_status kc_rms_norm(kc_context* context, const float* x, const float* weight, int64_t n_tokens, int64_t dim,
                             float eps, float* out);
/* out[t, p, 0] = magnitude * cos(positions[t] * inv_freq[p]), out[t, p, 1] the sine; computed in double. out [n_tokens,
 * n_pairs, 2]. */
KC_API kc_status kc_rope_table(kc_context* context, const int32_t* positions, const float* inv_freq, int64_t n_tokens,
                               int64_t n_pairs, float magnitude, float* out);
/* Which two elements of a head make pair p: (2p, 2p + 1), or (p, p + n_pairs). */
enum { KC_ROPE_INTERLEAVED = 0, KC_ROPE_HALVES = 1 };
/* Rotates the first 2 * n_pairs elements of every head of x [n_tokens, n_heads, head_dim], in place, by table
 * [n_tokens, n_pairs, 2]. */
KC_API kc_status kc_rope(kc_context* context, const float* table, int64_t n_tokens, int64_t n_heads, int64_t head_dim,
                         int64_t n_pairs, int32_t pairing, float* x);
/* out[i] = gate[i] / (1 + exp(-gate[i])) * up[i]; out may be gate or up. */
KC_API kc_status kc_swiglu(kc_context* context, const float* gate, const float* up, int64_t n, float* out);
/* out[i] = a[i] + b[i]; out may be a or b. */
KC_API kc_status kc_add(kc_context* context, const float* a, const float* b, int64_t n, float* out);
/* out[t] = row ids[t] of table, as floats; out [n_tokens, table.n_cols]. ARGUMENT names an id outside the table. */
KC_API kc_status kc_embed(kc_context* context, const kc_matrix* table, const int32_t* ids, int64_t n_tokens,
                          float* out);
/* Softmax of each row of x [n_rows, n_cols]; out may be x. */
KC_API kc_status kc_softmax(kc_context* context, const float* x, int64_t n_rows, int64_t n_cols, float* out);
/* Index of the largest element of each row; ties: the lower index; NaN ranks last. out [n_rows]. */
KC_API kc_status kc_argmax(kc_context* context, const float* x, int64_t n_rows, int64_t n_cols, int32_t* out);

/* ----------------------------------------------------------------------------------------------------------- matmul */

typedef struct kc_matmul_output {
    kc_matrix weight;   /* [n_rows, n_cols] */
    const float* bias;  /* [n_rows], or NULL */
    float* out;         /* [n_tokens, n_rows] */
    int64_t out_stride; /* elements between rows of out; 0: n_rows */
    int32_t accumulate; /* 1: added to what out holds */
    int32_t reserved;
} kc_matmul_output;

enum { KC_MATMUL_MAX_OUTPUTS = 4 };

/* out[t, r] = sum over c of x[t, c] * weight[r, c] (+ bias[r]) (+ out[t, r]), for up to four matrices that share x. */
typedef struct kc_matmul_params {
    uint32_t size;
    int32_t n_outputs;
    const float* x; /* [n_tokens, n_cols] */
    int64_t n_tokens;
    int64_t n_cols;   /* the same in all weights */
    int64_t x_stride; /* elements between rows of x; 0: n_cols */
    kc_matmul_output outputs[KC_MATMUL_MAX_OUTPUTS];
} kc_matmul_params;

KC_API kc_status kc_matmul(kc_context* context, const kc_matmul_params* params);

/* out[r, c] = weight[first_row + r, c] as floats, for products that another library computes; out [n_rows, n_cols]. */
KC_API kc_status kc_matrix_expand(kc_context* context, const kc_matrix* weight, int64_t first_row, int64_t n_rows,
                                  float* out);

/* -------------------------------------------------------------------------------------- the cache as kernels see it */

enum { KC_PAGE_TOKENS = 64 };

/* Bytes of one block: the rows of one page of one KV head in one codec. 64 * (bits * head_dim / 8 + 2), for f16 64 * 2
 * * head_dim. A block is opaque (its layout is chosen for the kernels) but for two: f16 values are rows [64, head_dim],
 * q8 values are rows of integers [64, head_dim] and then 64 f16 scales. 0 where the codec or the head size is not
 * offered. Any thread. */
KC_API uint64_t kc_block_bytes(int32_t codec, int32_t head_dim);

/* One page of one sequence. All layers use the same pages. */
typedef struct kc_page_view {
    int32_t position; /* of its first token; a multiple of 64 */
    int32_t page;     /* its index in the stores of K and V */
    int32_t exact;    /* its slot of exact rows in fast memory; ~p (negative) when they are page p of the spill file */
} kc_page_view;

/* The part of a frame that belongs to one sequence. Tokens are indexed by page: token i of the view is row i % 64 of
 * pages[i / 64]. That is the position in the text, except under `window`, where pages that were forgotten are absent.
 */
typedef struct kc_sequence_view {
    int32_t first_row; /* its rows of this forward's q, k, v, out */
    int32_t n_rows;
    int32_t n_past; /* tokens of the text before these rows */
    int32_t n_pages;
    const kc_page_view* pages; /* ascending; room for the new rows included */
    int32_t first_page;        /* slot in the first-page stores; -1: none are used */
    int32_t set_centre; /* 1: this append fills the first page or goes on behind it for the first time: compute the
                           centres from its 64 rows */
    int32_t hot;        /* slot in the hot stores */
    int32_t reserved;
} kc_sequence_view;

/* K or V of one layer in fast memory. Coded pages (q8 and below) are rotated and centred (docs/sketch.md); the first
 * page of every sequence then lies in f16 in a store of its own. */
typedef struct kc_store {
    int32_t codec;
    int32_t reserved;
    uint8_t* base; /* block of (page, head) at base + page * page_stride_bytes + head * kc_block_bytes; NULL: there is
                      no such copy */
    int64_t page_stride_bytes;
    uint8_t* first; /* f16 block of (slot, head) at first + slot * first_stride_bytes + head * kc_block_bytes(F16);
                       NULL: codec is f16 */
    int64_t first_stride_bytes;
    float*
        centre; /* [slot, n_kv_heads, head_dim] at centre + slot * centre_stride: mean of the first 64 rows, rotated */
    int64_t centre_stride;
} kc_store;

typedef struct kc_spill kc_spill;

/* Exact rows of one layer: V, or K then V of a token side by side, in fast slots or in the spill file; [kv_head][64
 * tokens][row]. */
typedef struct kc_exact_store {
    int32_t has_k;   /* 1: a row is K (f16) then V */
    int32_t v_codec; /* KC_CODEC_F16, or KC_CODEC_Q8: rotated, centred integers, their scales in a plane of their own */
    int64_t row_bytes; /* of one token and head: (has_k ? 2 * head_dim : 0) + (2 or 1) * head_dim */
    uint8_t* base;     /* row (slot, head, t) at base + slot * slot_stride_bytes + (head * 64 + t) * row_bytes; NULL: no
                          exact rows */
    int64_t slot_stride_bytes;
    uint16_t* scales; /* q8: f16 scale of (page, head, t) at scales + page * scale_stride + head * 64 + t; indexed by
                         page, always fast */
    int64_t scale_stride;
    kc_spill* spill; /* row (p, head, t) at file offset spill_offset_bytes + p * spill_stride_bytes + (head * 64 + t) *
                        row_bytes */
    int64_t spill_offset_bytes;
    int64_t spill_stride_bytes;
} kc_exact_store;

/* What attends in one layer. */
typedef struct kc_layer_view {
    int32_t n_q_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    float scale;
    kc_store k;           /* always with base */
    kc_store v;           /* base NULL where values are only kept as exact rows; first may be set then */
    kc_exact_store exact; /* base NULL: none */
} kc_layer_view;

/* -------------------------------------------------------------------------------------------------------- kv_append */

/* Rotates, encodes and stores new rows: into the K store, the V store or sketch, and the exact rows' fast slots (of
 * pages from the second on where a first-page store is used, of all pages otherwise). The pages of new rows have fast
 * exact slots. */
typedef struct kc_kv_append_params {
    uint32_t size;
    int32_t n_sequences;
    const kc_layer_view* layer;
    const kc_sequence_view* sequences;
    const float* k; /* [n_rows, n_kv_heads, head_dim] */
    const float* v;
    uint64_t* n_nonfinite; /* grows by the rows (of one head) of k or v in which a number is NaN, infinite, or too large
                              for f16: NaN is stored as 0, the others as the largest f16 */
} kc_kv_append_params;

KC_API kc_status kc_kv_append(kc_context* context, const kc_kv_append_params* params);

/* Decodes rows [first_token, first_token + n_tokens) of one sequence and head back to floats: what the codec kept. is_v
 * 0: K, 1: V. out [n_tokens, head_dim]. For tests. */
KC_API kc_status kc_kv_decode(kc_context* context, const kc_layer_view* layer, const kc_sequence_view* sequence,
                              int32_t is_v, int32_t kv_head, int32_t first_token, int32_t n_tokens, float* out);

/* --------------------------------------------------------------------------------------------------- attention_full */

/* A prompt: row r of a sequence attends exactly to tokens [0, n_past + r]; with n_recent >= 0 only to the first n_sink
 * and the last n_recent of them. K and V come from the exact rows where the layer has them, else from the stores. Sums
 * run in ascending token order, of weights as attention_score and attention_mix make them: the bits of a row do not
 * depend on how a prompt is cut. */
typedef struct kc_attention_full_params {
    uint32_t size;
    int32_t n_sequences;
    const kc_layer_view* layer;
    const kc_sequence_view* sequences;
    /* staged[s][p]: exact rows [kv_head_begin .. kv_head_end)[64][row] of spilled page p; NULL where nothing is spilled
     */
    const uint8_t* const* const* staged;
    int32_t n_sink;
    int32_t n_recent;      /* -1: everything is visible */
    int32_t kv_head_begin; /* the KV heads of this call: the out of others is left alone, */
    int32_t kv_head_end;   /* so that staging need not hold more than one; 0: all */
    const float* q;        /* [n_rows, n_q_heads, head_dim] */
    void* scratch;         /* kc_attention_full_scratch_bytes, aligned to 64 */
    float* out;            /* as q */
} kc_attention_full_params;

KC_API kc_status kc_attention_full(kc_context* context, const kc_attention_full_params* params);
/* n_context: most tokens (rounded up to pages) of a sequence view. Depends on the context's threads. */
KC_API uint64_t kc_attention_full_scratch_bytes(kc_context* context, const kc_layer_view* layer, int64_t n_context);

/* -------------------------------------------------------------------------------------------------- attention_score */

/* One decode step of one sequence: row `row` of q sees tokens i of view `sequence` whose position is below n_visible
 * and either below n_sink or at least visible_from. */
typedef struct kc_query_view {
    int32_t row;
    int32_t sequence;
    int32_t n_visible;
    int32_t visible_from; /* 0: everything; greater only under `window` */
} kc_query_view;

/* A wave: decode steps that run side by side, of KV heads [kv_head_begin, kv_head_end). In one wave no sequence stands
 * twice. */
typedef struct kc_wave {
    const kc_layer_view* layer;
    const kc_sequence_view* sequences;
    const kc_query_view* queries;
    int32_t n_queries;
    int32_t n_sink;
    int32_t n_recent; /* of these, and of the sinks, exact rows are always used */
    int32_t kv_head_begin;
    int32_t kv_head_end;
    int32_t reserved;
    const float* q;       /* [n_rows, n_q_heads, head_dim], behind rope */
    int64_t token_stride; /* of weights: tokens of the longest view, a multiple of 64 */
} kc_wave;

/* weights[w, h, i] = exp(s - reference[w, h]), s = scale * q . k_i, 0 for tokens that are not visible up to the end of
 * the view's pages; mass = their sum by blocks and spans. The reference is the largest score or at most 30 below it, as
 * the backend finds it; the same for the same tokens. Keys that are coded: integer dot products (queries in 15 bits or
 * more against q8, 8 bits against less), except recent tokens, which are scored from exact rows where the layer has
 * them. A score that is NaN or infinite weighs 0 and is counted. */
typedef struct kc_attention_score_params {
    uint32_t size;
    uint32_t reserved;
    const kc_wave* wave;
    void* scratch;        /* kc_attention_score_scratch_bytes, aligned to 64 */
    float* weights;       /* [n_queries, n_q_heads, token_stride] */
    float* reference;     /* [n_queries, n_q_heads] */
    float* mass;          /* [n_queries, n_q_heads] */
    int32_t* n_nonfinite; /* [n_queries, n_q_heads] */
} kc_attention_score_params;

KC_API kc_status kc_attention_score(kc_context* context, const kc_attention_score_params* params);
KC_API uint64_t kc_attention_score_scratch_bytes(kc_context* context, const kc_layer_view* layer, int64_t n_queries,
                                                 int64_t token_stride);

/* ------------------------------------------------------------------------------------------------------ select_topn */

/* Per wave query and KV head: which tokens count exactly. All visible sinks and recent tokens, and beyond them the
 * n_keep tokens with the largest weight (weights[h, i] / mass[h], summed over the group; or the union of each head's
 * n_keep). Ties: the lower index. Then, for max_tail and max_error above 0, further tokens in the order of the group's
 * summed weight until every head keeps the bounds, up to n_keep_max. */
typedef struct kc_select_topn_params {
    uint32_t size;
    int32_t select; /* KC_SELECT_* */
    const kc_wave* wave;
    const float* weights; /* from attention_score, as is mass */
    const float* mass;
    int32_t n_keep;
    int32_t n_keep_max;  /* at least n_keep */
    float max_tail;      /* 0: off */
    float max_error;     /* 0: off */
    int64_t kept_stride; /* of kept: at least min(tokens, sinks + recent + n_keep_max or group * n_keep) */
    void* scratch;       /* kc_select_topn_scratch_bytes */
    int32_t* kept;       /* [n_queries, n_kv_heads, kept_stride], ascending token indices of the view */
    int32_t* n_kept;     /* [n_queries, n_kv_heads] */
    int32_t* n_selected; /* [n_queries, n_kv_heads]: of these, neither sinks nor recent */
    float* tail;         /* [n_queries, n_q_heads]: sum of the weights outside, divided by mass */
    float* error;        /* [n_queries, n_q_heads]: root of the sum of their squares, divided by mass. Both NULL: not
                            wanted, which saves a pass (attention_mix tells them too); only where max_tail and max_error
                            are 0 */
    int32_t* missed;     /* [n_queries, n_kv_heads]: 1 where a bound was not kept */
} kc_select_topn_params;

KC_API kc_status kc_select_topn(kc_context* context, const kc_select_topn_params* params);
KC_API uint64_t kc_select_topn_scratch_bytes(kc_context* context, const kc_layer_view* layer, int64_t n_queries,
                                             int64_t token_stride);

/* ------------------------------------------------------------------------------------------------------ row_restore */

/* The slow home of the CPU backend: a file without a name. */
/* Creates it in `dir` (NULL: the system's temporary directory). IO: missing, not writable, or a tmpfs, which is memory
 * in disguise. */
KC_API kc_status kc_spill_create(kc_context* context, const char* dir, kc_spill** out);
/* Makes the file n_bytes long, with blocks reserved on the disk. IO: full. */
KC_API kc_status kc_spill_reserve(kc_spill* spill, uint64_t n_bytes);
KC_API kc_status kc_spill_write(kc_spill* spill, uint64_t offset_bytes, const void* data, uint64_t n_bytes);
KC_API kc_status kc_spill_read(kc_spill* spill, uint64_t offset_bytes, void* data, uint64_t n_bytes);
KC_API void kc_spill_destroy(kc_spill* spill);

/* Recently restored rows of one layer, per sequence slot and KV head: n_slots rows, least recently used replaced (ties:
 * lowest slot). */
typedef struct kc_hot_store {
    int32_t n_slots;
    int32_t reserved;
    uint8_t* rows; /* row (hot, head, slot) at rows + hot * hot_stride_bytes + (head * n_slots + slot) * row_bytes */
    int64_t hot_stride_bytes;
    uint8_t* state; /* of (hot, head) at state + hot * state_stride_bytes + head * kc_hot_state_bytes(n_slots) */
    int64_t state_stride_bytes;
} kc_hot_store;

KC_API uint64_t kc_hot_state_bytes(int32_t n_slots);
/* Empties the slots of tokens from `first_token` on (0: all) of one sequence slot, all heads. Must be called once
 * before the first use. */
KC_API kc_status kc_hot_drop(kc_context* context, const kc_hot_store* hot, int32_t n_kv_heads, int32_t slot,
                             int32_t first_token);

/* For every kept token: the address of its exact row, brought into fast memory if it was not there. Rows in fast slots
 * and in the first-page store are addressed in place. Missing rows are read by asynchronous positioned reads sorted by
 * offset, neighbours within 4 KiB merged, into hot slots, or into staging where a kept set is larger than the hot
 * store. Asynchronous: begin starts the reads, end waits for them. Between the two, other heads may be scored. IO: a
 * failed read; no row counts as restored then. */
typedef struct kc_row_restore_params {
    uint32_t size;
    uint32_t reserved;
    const kc_wave* wave;
    const kc_hot_store* hot; /* NULL: nothing is spilled */
    const int32_t* kept;     /* from select_topn */
    const int32_t* n_kept;
    int64_t kept_stride;
    uint8_t* staging; /* [n_queries, n_kv_heads, kept_stride, row_bytes]; NULL: every kept set fits the hot store */
    void*
        scratch; /* kc_row_restore_scratch_bytes; kept untouched between begin and end, one per head range in flight */
    const uint8_t** rows; /* [n_queries, n_kv_heads, kept_stride]: address of the row of each kept token */
    int32_t* n_restored;  /* [n_queries, n_kv_heads]: rows read from the spill file */
    int32_t* n_hot;       /* [n_queries, n_kv_heads]: rows of the spill file found in hot slots */
} kc_row_restore_params;

KC_API kc_status kc_row_restore_begin(kc_context* context, const kc_row_restore_params* params);
KC_API kc_status kc_row_restore_end(kc_context* context, const kc_row_restore_params* params);
/* Both. */
KC_API kc_status kc_row_restore(kc_context* context, const kc_row_restore_params* params);
KC_API uint64_t kc_row_restore_scratch_bytes(kc_context* context, const kc_layer_view* layer, int64_t n_queries,
                                             int64_t kept_stride);

/* ---------------------------------------------------------------------------------------------------- attention_mix */

enum {
    KC_MIX_RENORMALIZED = 0,  /* kept rows only (or all: kept NULL), weights divided by their own mass */
    KC_MIX_EXACT_WEIGHTS = 1, /* kept rows only, weights divided by the mass of all */
    KC_MIX_SKETCHED =
        2 /* kept rows exactly, all others through the V store; kept rows are scored again where exact rows hold keys */
};

/* out[row, h] = sum of weight * value / mass. In ascending token order, in blocks of 64 tokens whose sums are merged in
 * order into those of spans of a fixed number of pages, and these in order into the total: with every token kept,
 * KC_MIX_RENORMALIZED gives the same bits from any home, as exact rows or from the V store. */
typedef struct kc_attention_mix_params {
    uint32_t size;
    int32_t mode; /* KC_MIX_* */
    const kc_wave* wave;
    float* weights; /* from attention_score; KC_MIX_SKETCHED with exact keys writes the new weights of kept tokens into
                       it */
    const float* reference;
    const float* mass;
    const int32_t* kept; /* NULL: every visible token, from the V store */
    const int32_t* n_kept;
    const uint8_t* const* rows; /* from row_restore */
    int64_t kept_stride;
    void* scratch; /* kc_attention_mix_scratch_bytes */
    float* out;    /* [n_rows, n_q_heads, head_dim] */
    float* tail;   /* [n_queries, n_q_heads], may be NULL: sum of the weights that are not kept, divided by the mass of
                      all; KC_MIX_SKETCHED: after scoring again. Left as it is where kept is NULL, as is error */
    float* error;  /* [n_queries, n_q_heads], may be NULL: root of the sum of their squares, divided likewise */
} kc_attention_mix_params;

KC_API kc_status kc_attention_mix(kc_context* context, const kc_attention_mix_params* params);
KC_API uint64_t kc_attention_mix_scratch_bytes(kc_context* context, const kc_layer_view* layer, int64_t n_queries,
                                               int64_t token_stride);

#ifdef __cplusplus
}
#endif
#endif
