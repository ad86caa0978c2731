#include "cache/cache.h"

#include "api/check.h"
#include "api/guard.h"

using namespace kc;

struct kc_cache : kc::Cache {
    using Cache::Cache;
};

kc_status kc_cache_memory(kc_context* context, const kc_cache_desc* desc, kc_memory* out) {
    return guard([&] {
        check_pointer(context, "context");
        check_struct(desc, "desc");
        check_struct(out, "out");
        Cache::plan(context->backend, *desc, out);
    });
}

kc_status kc_cache_create(kc_context* context, const kc_cache_desc* desc, kc_cache** out) {
    return guard([&] {
        check_pointer(context, "context");
        check_struct(desc, "desc");
        check_pointer(out, "out");
        *out = new kc_cache(*context, *desc);
    });
}

void kc_cache_destroy(kc_cache* cache) { delete cache; }

kc_status kc_cache_usage(kc_cache* cache, kc_memory* out) {
    return guard([&] {
        check_pointer(cache, "cache");
        check_struct(out, "out");
        cache->usage(out);
    });
}

kc_status kc_sequence_create(kc_cache* cache, int32_t* out_sequence) {
    return guard([&] {
        check_pointer(cache, "cache");
        check_pointer(out_sequence, "out_sequence");
        *out_sequence = cache->create_sequence();
    });
}

kc_status kc_sequence_fork(kc_cache* cache, int32_t source, int32_t* out_sequence) {
    return guard([&] {
        check_pointer(cache, "cache");
        check_pointer(out_sequence, "out_sequence");
        *out_sequence = cache->fork_sequence(source);
    });
}

kc_status kc_sequence_truncate(kc_cache* cache, int32_t sequence, int32_t n_tokens) {
    return guard([&] {
        check_pointer(cache, "cache");
        cache->truncate_sequence(sequence, n_tokens);
    });
}

kc_status kc_sequence_free(kc_cache* cache, int32_t sequence) {
    return guard([&] {
        check_pointer(cache, "cache");
        cache->free_sequence(sequence);
    });
}

kc_status kc_sequence_length(kc_cache* cache, int32_t sequence, int32_t* out_n_tokens) {
    return guard([&] {
        check_pointer(cache, "cache");
        check_pointer(out_n_tokens, "out_n_tokens");
        *out_n_tokens = cache->sequence_length(sequence);
    });
}

kc_status kc_cache_begin(kc_cache* cache, const kc_batch_entry* entries, int32_t n_entries) {
    return guard([&] {
        check_pointer(cache, "cache");
        check_pointer(entries, "entries");
        cache->begin(entries, n_entries);
    });
}

kc_status kc_cache_append(kc_cache* cache, int32_t layer, const float* k, const float* v) {
    return guard([&] {
        check_pointer(cache, "cache");
        check_pointer(k, "k");
        check_pointer(v, "v");
        cache->append(layer, k, v);
    });
}

kc_status kc_cache_attend(kc_cache* cache, int32_t layer, const float* q, float* out) {
    return guard([&] {
        check_pointer(cache, "cache");
        check_pointer(q, "q");
        check_pointer(out, "out");
        cache->attend(layer, q, out);
    });
}

kc_status kc_cache_replay_begin(kc_cache* cache, uint64_t key, int32_t* out_replayed) {
    return guard([&] {
        check_pointer(cache, "cache");
        check_pointer(out_replayed, "out_replayed");
        *out_replayed = cache->begin_replay(key) ? 1 : 0;
    });
}

kc_status kc_cache_replay_end(kc_cache* cache) {
    return guard([&] {
        check_pointer(cache, "cache");
        cache->end_replay();
    });
}

kc_status kc_cache_commit(kc_cache* cache) {
    return guard([&] {
        check_pointer(cache, "cache");
        cache->commit();
    });
}

kc_status kc_cache_rollback(kc_cache* cache) {
    return guard([&] {
        check_pointer(cache, "cache");
        cache->rollback();
    });
}

kc_status kc_cache_statistics(kc_cache* cache, int32_t layer, kc_statistics* out) {
    return guard([&] {
        check_pointer(cache, "cache");
        check_struct(out, "out");
        cache->statistics(layer, out);
    });
}

kc_status kc_cache_statistics_reset(kc_cache* cache) {
    return guard([&] {
        check_pointer(cache, "cache");
        cache->reset_statistics();
    });
}
