/* A program in C that knows nothing but kcache.h: two layers of random keys and values, a prompt, and sixteen decode
 * steps under three caches. It checks what the header promises: with room for every row `kcache` gives the bits of
 * `full`, and with few rows its output is off by no more than the weight outside them times the largest norm of a
 * value. */
#include <kcache.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_LAYERS = 2, N_Q_HEADS = 4, N_KV_HEADS = 2, HEAD_DIM = 64, N_PROMPT = 500, N_STEPS = 16 };
enum { Q_ROW = N_Q_HEADS * HEAD_DIM, KV_ROW = N_KV_HEADS * HEAD_DIM };

/* Every call goes through this: the sentence of the library and the place, then the end. */
static void ok(kc_status status, int line) {
    if (status == KC_OK) return;
    fprintf(stderr, "sample.c:%d: status %d: %s\n", line, (int)status, kc_last_message());
    exit(1);
}
#define OK(call) ok((call), __LINE__)

static void require(int condition, const char* what) {
    if (condition) return;
    fprintf(stderr, "sample: %s\n", what);
    exit(1);
}

/* The same numbers in every run: uniform in [-1, 1). */
static uint64_t random_state;
static float random_float(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(random_state >> 32) / 2147483648.0f;
}
static void fill(float* x, size_t n, float scale) {
    for (size_t i = 0; i < n; ++i) x[i] = scale * random_float();
}

/* One forward of n tokens through all layers; `out` keeps what the last layer attends to. */
static void forward(kc_cache* cache, int32_t sequence, int32_t n_tokens, int32_t kind, float* k, float* v, float* q,
                    float* out) {
    kc_batch_entry entry = {sequence, n_tokens, kind};
    OK(kc_cache_begin(cache, &entry, 1));
    for (int32_t layer = 0; layer < N_LAYERS; ++layer) {
        fill(k, (size_t)n_tokens * KV_ROW, 1.0f);
        fill(v, (size_t)n_tokens * KV_ROW, 1.0f);
        fill(q, (size_t)n_tokens * Q_ROW, 4.0f);
        OK(kc_cache_append(cache, layer, k, v));
        OK(kc_cache_attend(cache, layer, q, out));
    }
    OK(kc_cache_commit(cache));
}

/* Runs the whole text under `desc`: the outputs of all decode steps into `outputs` [N_STEPS, N_Q_HEADS, HEAD_DIM]. */
static kc_statistics run(kc_context* context, const kc_cache_desc* desc, float* outputs) {
    kc_memory memory = {.size = sizeof memory};
    OK(kc_cache_memory(context, desc, &memory));
    kc_cache* cache = NULL;
    OK(kc_cache_create(context, desc, &cache));
    int32_t sequence = -1;
    OK(kc_sequence_create(cache, &sequence));

    float* k = malloc(sizeof(float) * N_PROMPT * KV_ROW);
    float* v = malloc(sizeof(float) * N_PROMPT * KV_ROW);
    float* q = malloc(sizeof(float) * N_PROMPT * Q_ROW);
    float* out = malloc(sizeof(float) * N_PROMPT * Q_ROW);
    require(k && v && q && out, "out of memory");

    random_state = 1;
    forward(cache, sequence, N_PROMPT, KC_ENTRY_PROMPT, k, v, q, out);
    for (int step = 0; step < N_STEPS; ++step)
        forward(cache, sequence, 1, KC_ENTRY_DECODE, k, v, q, outputs + (size_t)step * Q_ROW);

    int32_t length = 0;
    OK(kc_sequence_length(cache, sequence, &length));
    require(length == N_PROMPT + N_STEPS, "the sequence has another length than was appended");
    kc_statistics statistics = {.size = sizeof statistics};
    OK(kc_cache_statistics(cache, -1, &statistics));
    printf("keep %4d: %8llu bytes of fast memory, %7llu bytes read a step, mean tail mass %.4f\n", (int)desc->n_keep,
           (unsigned long long)memory.fast_bytes, (unsigned long long)(statistics.read_bytes / N_STEPS),
           statistics.n_head_steps ? statistics.tail_sum / (double)statistics.n_head_steps : 0.0);

    free(k);
    free(v);
    free(q);
    free(out);
    kc_cache_destroy(cache);
    return statistics;
}

int main(void) {
    require(kc_abi() == KC_ABI, "the library was built for another ABI than this header");
    printf("kcache %s\n", kc_version());

    kc_context_desc context_desc = {.size = sizeof context_desc, .backend = KC_BACKEND_CPU, .n_threads = 2};
    kc_context* context = NULL;
    OK(kc_context_create(&context_desc, &context));
    kc_context_info info = {.size = sizeof info};
    OK(kc_context_info_get(context, &info));
    printf("%s, %d threads, %s\n", info.device, (int)info.n_threads, info.isa);

    static float full[N_STEPS * Q_ROW], every[N_STEPS * Q_ROW], few[N_STEPS * Q_ROW];
    kc_cache_desc desc = {.size = sizeof desc,
                          .n_layers = N_LAYERS,
                          .n_q_heads = N_Q_HEADS,
                          .n_kv_heads = N_KV_HEADS,
                          .head_dim = HEAD_DIM,
                          .n_context = 1024,
                          .n_batch_tokens = N_PROMPT,
                          .policy = KC_POLICY_FULL,
                          .n_sink = 4,
                          .n_recent = 32};
    run(context, &desc, full);

    desc.policy = KC_POLICY_KCACHE;
    desc.mode = KC_MODE_EXACT_WEIGHTS;
    desc.n_keep = desc.n_context;
    run(context, &desc, every);
    require(memcmp(full, every, sizeof full) == 0, "kcache with room for every row differs from full");

    desc.n_keep = 16;
    kc_statistics statistics = run(context, &desc, few);
    require(statistics.n_steps == N_STEPS, "the statistics count another number of steps");
    require(statistics.rows_selected == (uint64_t)N_STEPS * N_LAYERS * N_KV_HEADS * 16,
            "other than 16 rows were selected");
    require(memcmp(full, few, sizeof full) != 0, "sixteen rows of five hundred change nothing: that cannot be");
    /* |error| <= tail mass * largest norm of a dropped value: values lie in [-1, 1), so norms are below sqrt(64) */
    const double bound = 8.0 * statistics.tail_max + 1e-3;
    for (int row = 0; row < N_STEPS * N_Q_HEADS; ++row) {
        double square = 0;
        for (int i = 0; i < HEAD_DIM; ++i) {
            double d = (double)few[row * HEAD_DIM + i] - (double)full[row * HEAD_DIM + i];
            square += d * d;
        }
        require(square <= bound * bound, "the error exceeds its bound");
    }

    /* an impossible wish is refused with a sentence, and nothing happens */
    desc.head_dim = 63;
    kc_cache* none = NULL;
    require(kc_cache_create(context, &desc, &none) == KC_ERR_ARGUMENT && none == NULL,
            "a head size of 63 was accepted");
    printf("refused: %s\n", kc_last_message());

    OK(kc_context_destroy(context));
    return 0;
}
