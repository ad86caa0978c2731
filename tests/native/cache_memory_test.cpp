// The plan is what is taken, nothing is taken afterwards, everything is given back, and a budget too small says so.
#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "cache_harness.h"

using namespace harness;

namespace {

std::atomic<uint64_t> n_news{0};

}  // namespace

// Every allocation of this program, the library's own included: it is linked statically here. Not inlined, so that the
// compiler does not take the malloc inside for a mismatch.
#if defined(__GNUC__)
#define KC_OUT_OF_LINE __attribute__((noinline))
#else
#define KC_OUT_OF_LINE
#endif
KC_OUT_OF_LINE void* operator new(std::size_t n) {
    ++n_news;
    if (void* memory = std::malloc(n ? n : 1)) return memory;
    throw std::bad_alloc();
}
KC_OUT_OF_LINE void* operator new(std::size_t n, std::align_val_t alignment) {
    ++n_news;
    const std::size_t a = static_cast<std::size_t>(alignment);
    if (void* memory = std::aligned_alloc(a, (n + a - 1) / a * a)) return memory;
    throw std::bad_alloc();
}
KC_OUT_OF_LINE void operator delete(void* memory) noexcept { std::free(memory); }
KC_OUT_OF_LINE void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
KC_OUT_OF_LINE void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
KC_OUT_OF_LINE void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

kc_cache_desc describe_policy(const Shape& shape, int32_t policy) {
    kc_cache_desc desc = describe(shape, policy, 1024);
    desc.n_keep = policy >= KC_POLICY_KCACHE ? 16 : 0;
    desc.n_sequences = 2;
    desc.n_batch_tokens = 128;
    return desc;
}

void plan_is_kept() {
    const Shape shape;
    for (const int32_t policy : {KC_POLICY_FULL, KC_POLICY_WINDOW, KC_POLICY_KCACHE, KC_POLICY_SKETCH}) {
        for (const int32_t codec : {KC_CODEC_F16, KC_CODEC_Q8}) {
            for (const bool tight : {false, true}) {
                Context context(2);
                kc_cache_desc desc = describe_policy(shape, policy);
                desc.k_codec = codec;
                desc.v_codec = policy == KC_POLICY_SKETCH ? KC_CODEC_DEFAULT : codec;
                if (tight) desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
                const kc_memory planned = plan(context, desc);
                CHECK(context.info().live_bytes == 0 && context.info().n_allocations == 0, "a plan allocates nothing");
                CHECK(planned.fast_bytes >= planned.keys_bytes + planned.values_bytes + planned.exact_bytes +
                                                planned.hot_bytes + planned.scratch_bytes - 4096 &&
                          planned.fast_bytes <= planned.keys_bytes + planned.values_bytes + planned.exact_bytes +
                                                    planned.hot_bytes + planned.scratch_bytes,
                      planned.fast_bytes << " is not the sum of its parts");
                if (tight) CHECK(planned.fast_bytes <= desc.fast_budget_bytes, planned.fast_bytes);
                const bool spills = tight && policy >= KC_POLICY_KCACHE;
                CHECK((planned.slow_bytes > 0) == spills, planned.slow_bytes);
                {
                    Cache cache(context, shape, desc);
                    kc_context_info info = context.info();
                    CHECK(info.live_bytes == planned.fast_bytes, info.live_bytes << ", not " << planned.fast_bytes);
                    CHECK(info.n_live_objects == (spills ? 2u : 1u), info.n_live_objects);
                    CHECK(kc_context_destroy(context.handle) == KC_ERR_STATE, "a context with a cache");
                    const int32_t a = cache.open(), b = cache.open();
                    cache.prompt(a, text(700, 1));
                    cache.prompt(b, text(500, 2));
                    for (uint32_t step = 0; step < 70; ++step) {
                        cache.run({{a, {step}, KC_ENTRY_DECODE}, {b, {step + 1000}, KC_ENTRY_DECODE}});
                    }
                    kc_memory used = {};
                    used.size = sizeof used;
                    must(kc_cache_usage(cache.handle, &used), "kc_cache_usage");
                    CHECK(used.fast_bytes == planned.fast_bytes && used.exact_bytes == planned.exact_bytes,
                          used.fast_bytes);
                    CHECK(used.slow_bytes <= planned.slow_bytes && (used.slow_bytes > 0) == spills,
                          used.slow_bytes << " of " << planned.slow_bytes);
                    info = context.info();
                    CHECK(info.live_bytes == used.fast_bytes + used.slow_bytes, info.live_bytes);
                }
                const kc_context_info info = context.info();
                CHECK(info.live_bytes == 0 && info.n_live_objects == 0, info.live_bytes << " bytes left");
            }
        }
    }
}

// Neither through the context nor behind its back, in prompts and decode steps, with rows in the file too.
void nothing_is_allocated_in_a_step() {
    const Shape shape;
    for (const auto& [policy, tight] : std::vector<std::pair<int32_t, bool>>{{KC_POLICY_KCACHE, false},
                                                                             {KC_POLICY_KCACHE, true},
                                                                             {KC_POLICY_SKETCH, false},
                                                                             {KC_POLICY_SKETCH, true}}) {
        Context context(2);
        kc_cache_desc desc = describe_policy(shape, policy);
        if (tight) desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
        Cache cache(context, shape, desc);
        const int32_t sequence = cache.open();
        cache.prompt(sequence, text(600, 1));
        std::vector<float> k(size_t(shape.kv_width()), 0.5f), q(size_t(shape.q_width()), 0.5f), out(q);
        const kc_context_info before = context.info();
        const uint64_t n_before = n_news;
        for (int step = 0; step < 150; ++step) {  // over the edges of pages
            const kc_batch_entry entry = {sequence, 1, KC_ENTRY_DECODE};
            k[size_t(step) % k.size()] += 0.25f;
            q[size_t(step) % q.size()] -= 0.25f;
            must(kc_cache_begin(cache.handle, &entry, 1), "begin");
            for (int32_t l = 0; l < shape.n_layers; ++l) {
                must(kc_cache_append(cache.handle, l, k.data(), k.data()), "append");
                must(kc_cache_attend(cache.handle, l, q.data(), out.data()), "attend");
            }
            must(kc_cache_commit(cache.handle), "commit");
        }
        const uint64_t n_after = n_news;
        CHECK(n_after == n_before, n_after - n_before << " allocations in 150 steps");
        CHECK(context.info().n_allocations == before.n_allocations, context.info().n_allocations);
        CHECK(!tight || cache.statistics().rows_restored > 0, "nothing came from the file");
    }
}

void budgets() {
    const Shape shape;
    Context context;
    for (const int32_t policy : {KC_POLICY_FULL, KC_POLICY_WINDOW, KC_POLICY_KCACHE, KC_POLICY_SKETCH}) {
        kc_cache_desc desc = describe_policy(shape, policy);
        const kc_memory all = plan(context, desc);
        kc_memory memory = {};
        memory.size = sizeof memory;
        desc.fast_budget_bytes = all.fast_minimum_bytes - 1;
        kc_cache* cache = nullptr;
        const std::string named = std::to_string(all.fast_minimum_bytes);
        CHECK(kc_cache_memory(context.handle, &desc, &memory) == KC_ERR_BUDGET, kc_last_message());
        CHECK(std::string(kc_last_message()).find(named) != std::string::npos, kc_last_message());
        CHECK(kc_cache_create(context.handle, &desc, &cache) == KC_ERR_BUDGET, kc_last_message());
        desc.fast_budget_bytes = ~uint64_t(0);
        CHECK(plan(context, desc).fast_bytes == all.fast_bytes, "more than needed takes what is needed");
        CHECK(plan(context, desc).slow_bytes == 0, "and spills nothing");
        if (policy < KC_POLICY_KCACHE) {
            CHECK(all.fast_minimum_bytes == all.fast_bytes, "nothing can be spilled");
            continue;
        }
        CHECK(all.fast_minimum_bytes < all.fast_bytes, all.fast_minimum_bytes << " of " << all.fast_bytes);
        uint32_t before = 0;
        for (uint64_t budget = all.fast_minimum_bytes; budget < all.fast_bytes; budget += all.fast_bytes / 50) {
            desc.fast_budget_bytes = budget;
            const kc_memory some = plan(context, desc);
            CHECK(some.fast_bytes <= budget, some.fast_bytes << " of " << budget);
            CHECK(some.n_fast_exact_pages >= before, "more memory, fewer pages");
            before = some.n_fast_exact_pages;
        }
        CHECK(before < all.n_fast_exact_pages && before > 4, before);
    }
}

// Exact rows stay fast while the budget allows: nothing is spilled until the pages that have room are taken.
void spill_is_lazy() {
    const Shape shape;
    Context context;
    kc_cache_desc desc = describe_policy(shape, KC_POLICY_KCACHE);
    desc.n_sequences = 1;
    const kc_memory all = plan(context, desc);
    desc.fast_budget_bytes = (all.fast_minimum_bytes + all.fast_bytes) / 2;
    const kc_memory half = plan(context, desc);
    Cache cache(context, shape, desc);
    const int32_t sequence = cache.open();
    kc_memory used = {};
    used.size = sizeof used;
    for (uint32_t page = 1; page <= 16; ++page) {
        cache.run({{sequence, text(64, page), KC_ENTRY_PROMPT}});
        must(kc_cache_usage(cache.handle, &used), "kc_cache_usage");
        CHECK((used.slow_bytes > 0) == (page > half.n_fast_exact_pages),
              page << " pages, " << half.n_fast_exact_pages << " fast");
    }
    CHECK(used.slow_bytes > 0, half.n_fast_exact_pages);
}

void two_contexts_at_once() {
    std::vector<std::thread> threads;
    std::vector<float> results[2];
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&results, i] {
            const Shape shape;
            Context context(2);
            kc_cache_desc desc = describe_policy(shape, KC_POLICY_KCACHE);
            desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
            Cache cache(context, shape, desc);
            cache.prompt(cache.open(), text(400, 1));
            for (uint32_t step = 0; step < 20; ++step) {
                const std::vector<float> out = cache.run({{0, {step}, KC_ENTRY_DECODE}});
                results[i].insert(results[i].end(), out.begin(), out.end());
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(same_bits(results[0], results[1]), "two contexts");
}

}  // namespace

int main() {
    plan_is_kept();
    nothing_is_allocated_in_a_step();
    budgets();
    spill_is_lazy();
    two_contexts_at_once();
    return kc_test::check_result();
}
