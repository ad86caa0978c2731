/* The C example of README.md: one layer, a prompt of 200 tokens, then a decode step that reads 32 exact rows. */
#include <stdio.h>
#include <stdlib.h>

#include "kcache.h"

#define OK(call)                                                   \
    do {                                                           \
        if ((call) != KC_OK) {                                     \
            fprintf(stderr, "%s: %s\n", #call, kc_last_message()); \
            return 1;                                              \
        }                                                          \
    } while (0)

static float q[200 * 8 * 64], k[200 * 2 * 64], v[200 * 2 * 64], out[200 * 8 * 64];

int main(void) {
    for (size_t i = 0; i < sizeof q / sizeof *q; ++i) q[i] = (float)(i % 97) / 97 - 0.5f;
    for (size_t i = 0; i < sizeof k / sizeof *k; ++i) k[i] = v[i] = (float)(i % 89) / 89 - 0.5f;

    kc_context* context = NULL;
    OK(kc_context_create(&(kc_context_desc){.size = sizeof(kc_context_desc)}, &context));

    kc_cache_desc desc = {.size = sizeof desc, .n_layers = 1, .n_q_heads = 8, .n_kv_heads = 2, .head_dim = 64};
    desc.n_context = 4096;
    desc.policy = KC_POLICY_SKETCH; /* keys in 4 bits, values in 2, and the best rows exactly */
    desc.n_keep = 32;
    desc.n_sink = 4;
    desc.n_recent = 32;
    kc_memory memory = {.size = sizeof memory};
    OK(kc_cache_memory(context, &desc, &memory)); /* before anything is allocated */
    printf("%llu bytes of fast memory, at least %llu\n", (unsigned long long)memory.fast_bytes,
           (unsigned long long)memory.fast_minimum_bytes);

    kc_cache* cache = NULL;
    int32_t sequence = 0;
    OK(kc_cache_create(context, &desc, &cache));
    OK(kc_sequence_create(cache, &sequence));

    /* q, k, v come from your model: [n_tokens, heads, head_dim], q and k behind rope; one append and attend a layer */
    OK(kc_cache_begin(cache, &(kc_batch_entry){sequence, 200, KC_ENTRY_PROMPT}, 1));
    OK(kc_cache_append(cache, 0, k, v));
    OK(kc_cache_attend(cache, 0, q, out));
    OK(kc_cache_commit(cache));

    OK(kc_cache_begin(cache, &(kc_batch_entry){sequence, 1, KC_ENTRY_DECODE}, 1));
    OK(kc_cache_append(cache, 0, k, v));
    OK(kc_cache_attend(cache, 0, q, out));
    OK(kc_cache_commit(cache));

    kc_statistics statistics = {.size = sizeof statistics};
    OK(kc_cache_statistics(cache, -1, &statistics));
    printf("the step chose %llu rows and read %llu bytes\n", (unsigned long long)statistics.rows_selected,
           (unsigned long long)statistics.read_bytes);
    kc_cache_destroy(cache);
    return kc_context_destroy(context) == KC_OK ? 0 : 1;
}
