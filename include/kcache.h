/* KCacheNative: run transformers whose key/value cache does not fit the fast memory.
 *
 * Read this header from top to bottom, it is a course in eight short chapters:
 *   1 version    2 status    3 context    4 buffers    5 cache    6 sequences    7 one forward    8 statistics
 * The kernels that a model is made of (matmul, rms_norm, rope ...) are in kcache_ops.h.
 *
 * Five words are used everywhere and never with synonyms:
 *   home   where memory lives. A backend has one fast and one slow home: RAM and a file on a CPU, HBM and pinned host
 * memory on a GPU. codec  how a row of K or V is encoded: f16, q8, q4, q3, q2. store  a home, a codec and pages of 64
 * tokens. plan   the steps decided for each layer when a cache is created. frame  what one attend call carries:
 * lengths, page tables, positions.
 *
 * Rules for every function:
 *   - Nothing here throws, exits, aborts or prints. A function that can fail returns a kc_status: KC_OK (0) or a
 * negative value, and then kc_last_message() is a sentence that names the argument, both values and the way out.
 *   - A failed call changes nothing, unless its comment says otherwise.
 *   - Structs that start with `size` must have it set to sizeof(the struct); fields added by later versions come at the
 * end. Zero-initialise them: zero is the documented default of every field.
 *   - Handles are opaque. Whoever creates one destroys it; destroying NULL does nothing. A parent must outlive its
 * children: context > buffers, caches.
 *   - Threads: different contexts may be used by different threads at the same time. One context and all that was made
 * from it must be used by one thread at a time, except the functions marked "any thread".
 *   - Shapes are written slowest dimension first: x[n_tokens, dim] has dim adjacent floats a token. Counts start with
 * n_, sizes end with _bytes, strides are in elements.
 */
#ifndef KCACHE_H
#define KCACHE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) && defined(KCACHE_BUILD)
#define KC_API __declspec(dllexport)
#elif defined(_WIN32)
#define KC_API __declspec(dllimport)
#else
#define KC_API __attribute__((visibility("default")))
#endif

/* -------------------------------------------------------------------------------------------------------- 1 version */

#define KC_VERSION_MAJOR 0
#define KC_VERSION_MINOR 1
#define KC_VERSION_PATCH 0
/* Grows by one whenever a program built against an older header could no longer run. */
#define KC_ABI 1

/* "0.1.0"; a static string. Any thread. */
KC_API const char* kc_version(void);
/* The KC_ABI that the library was built with: compare it with KC_ABI of your header before anything else. Any thread.
 */
KC_API int32_t kc_abi(void);

/* --------------------------------------------------------------------------------------------------------- 2 status */

typedef int32_t kc_status;
enum {
    KC_OK = 0,
    KC_ERR_ARGUMENT = -1,    /* an argument is impossible: a shape, a pointer, a combination */
    KC_ERR_MEMORY = -2,      /* the machine has no memory left for this */
    KC_ERR_BUDGET = -3,      /* fast_budget is below the smallest that the plan allows; the message names it */
    KC_ERR_STATE = -4,       /* the call comes at the wrong time: attend before begin, destroy before commit ... */
    KC_ERR_IO = -5,          /* the slow home: missing directory, full disk, failed read */
    KC_ERR_UNSUPPORTED = -6, /* a combination, type or device that this build does not offer */
    KC_ERR_CAPACITY = -7,    /* a sequence, a page or a token more than the cache was created for */
    KC_ERR_INTERNAL = -8     /* a defect of the library; please report the message */
};

/* The sentence behind the last failure on the calling thread; "" if there was none. Valid until the next failing call
 * of this thread. */
KC_API const char* kc_last_message(void);

/* -------------------------------------------------------------------------------------------------------- 3 context */

typedef struct kc_context kc_context;

enum { KC_BACKEND_AUTO = 0, KC_BACKEND_CPU = 1, KC_BACKEND_CUDA = 2 };

/* One device of a backend. */
typedef struct kc_device_info {
    uint32_t size;
    int32_t backend; /* KC_BACKEND_CPU or KC_BACKEND_CUDA */
    int32_t device;  /* its number: device of kc_context_desc */
    char isa[16];    /* as in kc_context_info */
    char name[96];   /* the device's own */
    uint32_t reserved;
    uint64_t total_bytes; /* of its memory, the backend's fast home; 0: not known */
    uint64_t free_bytes;
} kc_device_info;

/* How many devices of a backend work on this machine, numbered from 0. UNSUPPORTED where none does: kc_last_message()
 * says why. Any thread. */
KC_API kc_status kc_device_count(int32_t backend, int32_t* out_n_devices);
/* Errors: ARGUMENT, UNSUPPORTED. Any thread. */
KC_API kc_status kc_device_info_get(int32_t backend, int32_t device, kc_device_info* out);

/* How matmul treats its input where the weights are quantised: in 8 bits per block of 32 (fast), or as it is (slower,
 * for fidelity). */
enum { KC_ACTIVATIONS_Q8 = 0, KC_ACTIVATIONS_F32 = 1 };

typedef struct kc_context_desc {
    uint32_t size;
    int32_t backend;     /* KC_BACKEND_*; 0 takes the best that works */
    int32_t device;      /* device number of that backend */
    int32_t n_threads;   /* worker threads of the CPU backend, the caller included; 0: one per core that the process may
                            use */
    int32_t activations; /* KC_ACTIVATIONS_* */
} kc_context_desc;

typedef struct kc_context_info {
    uint32_t size;
    int32_t backend;         /* KC_BACKEND_CPU or KC_BACKEND_CUDA */
    int32_t n_threads;       /* as decided */
    int32_t activations;     /* KC_ACTIVATIONS_* */
    char isa[16];            /* "scalar", "avx2", "avx512": the instruction set that the kernels use */
    char device[96];         /* the device's own name */
    uint64_t live_bytes;     /* memory that buffers and caches of this context hold now, fast and slow homes together */
    uint64_t n_live_objects; /* buffers, caches and spill files that have not been destroyed */
    uint64_t n_allocations;  /* allocations since the context was created: unchanged over a decode step */
} kc_context_info;

/* Creates a context: a backend, its worker threads, its scratch. The environment variable KCACHE_ISA (scalar, avx2,
 * avx512) forces an instruction set, for tests; KCACHE_CUDA_GRAPHS=0 has CUDA launch the kernels of a decode step one
 * by one, with the same bits. Errors: ARGUMENT, UNSUPPORTED (backend or ISA not on this machine), MEMORY. */
KC_API kc_status kc_context_create(const kc_context_desc* desc, kc_context** out);
/* Frees the context. STATE while buffers or caches of it still live (nothing is freed then). */
KC_API kc_status kc_context_destroy(kc_context* context);
KC_API kc_status kc_context_info_get(kc_context* context, kc_context_info* out);
/* Grows the context's scratch to what matmul needs for n_tokens x n_cols inputs, so that no later call allocates. */
KC_API kc_status kc_context_reserve(kc_context* context, int64_t n_tokens, int64_t n_cols);
/* Returns when all enqueued work has finished. The CPU backend finishes each call before it returns, so this does
 * nothing there. */
KC_API kc_status kc_context_sync(kc_context* context);
/* The stream that the CUDA backend's kernels run on (a cudaStream_t), for work of another library between them; NULL on
 * the CPU. */
KC_API kc_status kc_context_stream(kc_context* context, void** out_stream);

/* -------------------------------------------------------------------------------------------------------- 4 buffers */

typedef struct kc_buffer kc_buffer;

/* Allocates n_bytes of zeroed memory that kernels can read and write, aligned to 64 bytes (4096 from 4096 bytes up).
 * Errors: MEMORY. */
KC_API kc_status kc_buffer_create(kc_context* context, uint64_t n_bytes, kc_buffer** out);
/* Makes host memory (a mapped model file, say) readable by kernels. The CPU backend uses it in place: it must stay
 * valid and unchanged until the buffer is destroyed. A GPU backend copies it. */
KC_API kc_status kc_buffer_wrap(kc_context* context, const void* host, uint64_t n_bytes, kc_buffer** out);
/* The address that kernels take. On the CPU backend the host may read and write it too. NULL for NULL. */
KC_API void* kc_buffer_data(kc_buffer* buffer);
/* Copies between the host and [offset_bytes, offset_bytes + n_bytes) of the buffer. */
KC_API kc_status kc_buffer_write(kc_buffer* buffer, uint64_t offset_bytes, const void* host, uint64_t n_bytes);
KC_API kc_status kc_buffer_read(kc_buffer* buffer, uint64_t offset_bytes, void* host, uint64_t n_bytes);
KC_API void kc_buffer_destroy(kc_buffer* buffer);

/* ---------------------------------------------------------------------------------------------------------- 5 cache */

typedef struct kc_cache kc_cache;

enum { KC_CODEC_DEFAULT = 0, KC_CODEC_F16 = 1, KC_CODEC_Q8 = 2, KC_CODEC_Q4 = 3, KC_CODEC_Q3 = 4, KC_CODEC_Q2 = 5 };

/* What a decode step reads of the cache (prompts read everything exactly, `window` excepted):
 *   full    every key and every value
 *   window  the first n_sink and the last n_recent tokens; everything between is forgotten, in prompts too
 *   kcache  every key, and per KV head the values of the first n_sink, the last n_recent and the n_keep best tokens
 * (arXiv 2404.18057) sketch  a low-bit copy of every key and value, and per KV head the exact keys and values of the
 * same choice of tokens */
enum { KC_POLICY_FULL = 0, KC_POLICY_WINDOW = 1, KC_POLICY_KCACHE = 2, KC_POLICY_SKETCH = 3 };
/* kcache only. renormalized: weights are divided by the mass of the exact rows; exact-weights: by the mass of all (the
 * paper's form). */
enum { KC_MODE_RENORMALIZED = 0, KC_MODE_EXACT_WEIGHTS = 1 };
/* The query heads of a KV head share one set of rows: the best by their summed weights, or the union of each head's
 * best. */
enum { KC_SELECT_GROUP = 0, KC_SELECT_UNION = 1 };

typedef struct kc_cache_desc {
    uint32_t size;
    int32_t n_layers;
    int32_t n_q_heads; /* a multiple of n_kv_heads */
    int32_t n_kv_heads;
    int32_t head_dim;       /* a multiple of 16, 16 to 256 */
    int32_t n_context;      /* most tokens of one sequence */
    int32_t n_sequences;    /* most sequences at once; 0: 1 */
    int32_t n_batch_tokens; /* most tokens of one forward over all sequences, the prompt window; 0: 256 */
    int64_t n_pool_tokens;  /* tokens that all sequences together may hold (forks share full pages); 0: n_context *
                               n_sequences */
    float scale;            /* of q . k; 0: 1 / sqrt(head_dim) */
    int32_t policy;         /* KC_POLICY_* */
    int32_t mode;           /* KC_MODE_* */
    int32_t select;         /* KC_SELECT_* */
    int32_t k_codec;        /* KC_CODEC_*; default f16, for `sketch` q4 */
    int32_t v_codec;        /* of values read exactly; default f16. `sketch`: f16 */
    int32_t v_sketch;       /* `sketch` only: codec of the copy of values in fast memory; default q2 */
    int32_t n_keep;         /* rows per KV head beyond sinks and recent ones; may be 0 */
    int32_t n_keep_max;     /* with max_tail or max_error: most rows; 0: all */
    int32_t n_sink;         /* at most 64 */
    int32_t n_recent;       /* at least 1 */
    int32_t n_dense_layers; /* leading layers that read everything exactly */
    float max_tail;  /* rows are added past n_keep until no query head's weight outside them exceeds this; 0: off */
    float max_error; /* the same for the root of the sum of squared weights outside; 0: off */
    uint64_t fast_budget_bytes; /* most bytes of the fast home for this cache, everything counted; 0: no limit, nothing
                                   is spilled */
    const char*
        spill_dir; /* directory of the slow home's file (UTF-8); NULL: the system's temporary directory. Not a tmpfs */
} kc_cache_desc;

/* Bytes of a cache. Pools are carved once, when the cache is created. */
typedef struct kc_memory {
    uint32_t size;
    uint32_t n_fast_exact_pages; /* pages of exact rows that have room in the fast home */
    uint64_t fast_bytes;         /* all of the fast home: the sum of the five below */
    uint64_t slow_bytes;         /* of the slow home: a file grows up to it, pinned memory is taken at once */
    uint64_t fast_minimum_bytes; /* the smallest fast_budget_bytes that create accepts */
    uint64_t keys_bytes;         /* keys in fast memory, first pages included */
    uint64_t values_bytes;       /* values or their sketch in fast memory, first pages included */
    uint64_t exact_bytes;   /* exact rows in fast memory: recent pages, prompt window, what the budget allows beyond */
    uint64_t hot_bytes;     /* recently restored rows */
    uint64_t scratch_bytes; /* scores, row lists, staging, page tables */
} kc_memory;

/* What kc_cache_create would take, before anything is allocated. Errors: as create, without MEMORY and IO. */
KC_API kc_status kc_cache_memory(kc_context* context, const kc_cache_desc* desc, kc_memory* out);
/* Creates a cache. Errors: ARGUMENT, UNSUPPORTED (a combination that is not offered: always refused here, never later),
 * BUDGET, MEMORY, IO (spill_dir missing, not writable, or memory in disguise). */
KC_API kc_status kc_cache_create(kc_context* context, const kc_cache_desc* desc, kc_cache** out);
KC_API void kc_cache_destroy(kc_cache* cache);
/* The memory that this cache holds: what kc_cache_memory said, with slow_bytes as large as a file has grown so far. */
KC_API kc_status kc_cache_usage(kc_cache* cache, kc_memory* out);

/* ------------------------------------------------------------------------------------------------------ 6 sequences */

/* Sequences are numbered 0 .. n_sequences - 1. None of these may be called between begin and commit or rollback
 * (STATE). */

/* Opens an empty sequence. Errors: CAPACITY. */
KC_API kc_status kc_sequence_create(kc_cache* cache, int32_t* out_sequence);
/* Opens a sequence that continues `source` as it is now. Pages are shared; a page that is not full is copied when one
 * of the two goes on. Errors: CAPACITY, ARGUMENT. */
KC_API kc_status kc_sequence_fork(kc_cache* cache, int32_t source, int32_t* out_sequence);
/* Forgets all tokens from n_tokens on. Under `window` only what has not been forgotten can be kept: ARGUMENT otherwise.
 */
KC_API kc_status kc_sequence_truncate(kc_cache* cache, int32_t sequence, int32_t n_tokens);
KC_API kc_status kc_sequence_free(kc_cache* cache, int32_t sequence);
KC_API kc_status kc_sequence_length(kc_cache* cache, int32_t sequence, int32_t* out_n_tokens);

/* ---------------------------------------------------------------------------------------------------- 7 one forward */

/* One forward runs new tokens of one or several sequences through all layers:
 *   begin; for each layer 0, 1, ...: append, attend; commit
 * (with replay_begin and replay_end around the layers of a decode step, if you like)
 * or rollback at any moment: the sequences are then as before begin.
 *
 * Rows of k, v, q and out are the tokens of the entries, one entry behind the other. Where all entries are prompts,
 * attend may be left out: k and v that were computed elsewhere are stored then. */

enum { KC_ENTRY_PROMPT = 0, KC_ENTRY_DECODE = 1 };

typedef struct kc_batch_entry {
    int32_t sequence; /* no sequence twice in a batch */
    int32_t n_tokens; /* at least 1 */
    int32_t
        kind; /* KC_ENTRY_PROMPT: tokens attend exactly. KC_ENTRY_DECODE: each token is a decode step under the policy,
                 and sees the tokens before it; more than one scores a text token by token in a single forward */
} kc_batch_entry;

/* Reserves pages, spills what must make room, and fixes the frame. Errors: ARGUMENT, CAPACITY (context, pool or batch
 * too small: names both numbers), IO (disk full). After an error no forward is under way. */
KC_API kc_status kc_cache_begin(kc_cache* cache, const kc_batch_entry* entries, int32_t n_entries);
/* Encodes and stores the new rows of a layer: k, v [n_rows, n_kv_heads, head_dim], k behind rope. Layers in order, each
 * once. */
KC_API kc_status kc_cache_append(kc_cache* cache, int32_t layer, const float* k, const float* v);
/* q, out [n_rows, n_q_heads, head_dim], q behind rope. After the layer's append. */
KC_API kc_status kc_cache_attend(kc_cache* cache, int32_t layer, const float* q, float* out);
/* A decode step (every entry KC_ENTRY_DECODE with one token) takes the same calls each time. A backend with graphs
 * (CUDA) records those that it makes between replay_begin, which comes right behind begin, and replay_end: those of
 * this cache, and operators of kcache_ops.h on the same context from the embedding to the logits. Nothing else of this
 * context may come between. out_replayed 1: all of them have been enqueued, from the record of an earlier step; go on
 * behind replay_end, or commit. 0: make them, and call replay_end before you read what they computed; the bits are the
 * same.
 *
 * key: your name for the calls that are not this cache's. Under one key they are the same, for the same number of
 * entries, with the same addresses, which are still valid; what the step is told of its tokens lies in buffers that are
 * written before. The cache sees to all that is its own (lengths, pages, how many entries). When in doubt, a new key.
 *
 * What a record cannot hold, an allocation, a copy from or to the host, kc_context_stream, ends it: the step runs call
 * by call, and so does its shape from then on. So do prompts, entries of several tokens, and backends without graphs.
 * Work may wait for replay_end, after rollback it never runs. Errors: STATE (not right behind begin). */
KC_API kc_status kc_cache_replay_begin(kc_cache* cache, uint64_t key, int32_t* out_replayed);
/* Does nothing where nothing is recorded. */
KC_API kc_status kc_cache_replay_end(kc_cache* cache);
/* The new lengths hold. Errors: STATE (a layer is missing, or replay_end). */
KC_API kc_status kc_cache_commit(kc_cache* cache);
/* The old lengths hold; does nothing when no forward is under way. */
KC_API kc_status kc_cache_rollback(kc_cache* cache);

/* ----------------------------------------------------------------------------------------------------- 8 statistics */

/* Sums over the decode steps that a cache has committed since it was created or reset. A "head step" is one query head
 * of one token in one layer that is not dense. The tail is the softmax weight outside the exact rows: exact where keys
 * are f16 or q8, else an estimate. */
typedef struct kc_statistics {
    uint32_t size;
    uint32_t reserved;
    uint64_t n_steps; /* decode tokens (counted once, not per layer) */
    uint64_t n_head_steps;
    double tail_sum; /* over head steps: tail_sum / n_head_steps is the mean */
    double tail_max;
    double error_max;        /* largest root of the sum of squared weights outside the exact rows */
    uint64_t n_selections;   /* KV heads times tokens times layers that chose rows */
    uint64_t rows_selected;  /* rows beyond sinks and recent ones, over all selections */
    uint64_t rows_restored;  /* brought back from the slow home */
    uint64_t rows_hot;       /* needed from the slow home and found in fast memory */
    uint64_t restored_bytes; /* moved by those restores */
    uint64_t read_bytes;     /* bytes of cache that decode steps read, all homes, dense layers included */
    uint64_t bound_missed;   /* selections that could not keep max_tail or max_error within n_keep_max */
    uint64_t n_nonfinite; /* NaN or infinite scores (they weigh nothing) and rows of k or v that held or became such a
                             number */
} kc_statistics;

/* layer -1: all layers together. */
KC_API kc_status kc_cache_statistics(kc_cache* cache, int32_t layer, kc_statistics* out);
KC_API kc_status kc_cache_statistics_reset(kc_cache* cache);

#ifdef __cplusplus
}
#endif
#endif
