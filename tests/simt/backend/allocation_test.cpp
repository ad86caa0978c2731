// A decode step allocates nothing: neither of what CUDA takes memory for, nor on the host's heap; run call by call or
// replayed, over the borders of pages. One thing is made within a step: the graph of a shape that comes for the second
// time.
#include <atomic>
#include <cstdlib>
#include <new>

#include "machine.h"
#include "small_model.h"

using namespace harness;

namespace {

std::atomic<uint64_t> n_news{0};

void count() {
    if (!simt::is_inside()) ++n_news;
}

}  // namespace

// Every allocation of this program but the machine's own; the library is linked statically. Not inlined, so that the
// compiler does not take the malloc inside for a mismatch.
__attribute__((noinline)) void* operator new(std::size_t n) {
    count();
    if (void* memory = std::malloc(n ? n : 1)) return memory;
    throw std::bad_alloc();
}
__attribute__((noinline)) void* operator new(std::size_t n, std::align_val_t alignment) {
    count();
    const std::size_t a = static_cast<std::size_t>(alignment);
    if (void* memory = std::aligned_alloc(a, (n + a - 1) / a * a)) return memory;
    throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}

namespace {

struct Made {
    uint64_t news = n_news, by_cuda = simt::n_made;
};

// What is counted is really seen.
void counters_count() {
    const Context context;
    const Made before;
    kc_buffer* buffer = nullptr;
    must(kc_buffer_create(context.handle, 100, &buffer), "kc_buffer_create");
    CHECK(n_news > before.news && simt::n_made == before.by_cuda + 1, "a buffer is not counted");
    kc_buffer_destroy(buffer);
}

constexpr int kSteps = 150;

void steps(const Variant& variant, bool tight, bool graphs) {
    setenv("KCACHE_CUDA_GRAPHS", graphs ? "1" : "0", 1);
    const std::string name =
        std::string(variant.name) + (tight ? ", tight" : "") + (graphs ? ", by graphs" : ", call by call");
    Shape shape = small_shape();
    shape.n_layers = 3;
    const Context context;
    Model model(context);
    kc_cache_desc desc = describe(shape, KC_POLICY_FULL, 640);
    apply(variant, desc);
    desc.n_batch_tokens = 64;
    if (tight) desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
    Cache cache(context, shape, desc);
    const int32_t sequence = cache.open();
    cache.prompt(sequence, text(350, 1), 64);
    const kc_batch_entry entry = {sequence, 1, KC_ENTRY_DECODE};
    std::vector<int32_t> ids(1);
    std::vector<float> logits(kVocab);
    kc_memory used = {};
    used.size = sizeof used;
    must(kc_cache_usage(cache.handle, &used), "kc_cache_usage");
    const uint64_t slow_bytes = used.slow_bytes;
    uint64_t n_replayed = 0, n_recorded = 0;
    for (int step = 0; step < kSteps; ++step) {
        const uint64_t n_launches = simt::n_graph_launches;
        const Made before;
        ids[0] = step % kVocab;
        model.tell(ids);
        must(kc_cache_begin(cache.handle, &entry, 1), "kc_cache_begin");
        int32_t replayed = 0;
        must(kc_cache_replay_begin(cache.handle, 1, &replayed), "kc_cache_replay_begin");
        if (!replayed) {
            model.begin(1);
            for (int32_t layer = 0; layer < shape.n_layers; ++layer) model.layer(cache.handle, shape, layer, 1);
            model.end(1);
        }
        must(kc_cache_replay_end(cache.handle), "kc_cache_replay_end");
        must(model.read_logits(logits), "kc_buffer_read");
        must(kc_cache_commit(cache.handle), "kc_cache_commit");
        const Made after;
        must(kc_cache_usage(cache.handle, &used), "kc_cache_usage");
        CHECK(used.slow_bytes == slow_bytes, name << ": the slow home grew in step " << step);
        const bool recorded = !replayed && simt::n_graph_launches > n_launches;
        n_replayed += uint64_t(replayed);
        n_recorded += recorded;
        // The first steps are the first of their shape too.
        if (step < 2) continue;
        const uint64_t by_cuda = after.by_cuda - before.by_cuda, news = after.news - before.news;
        CHECK(by_cuda == recorded && news == 0,
              name << ", step " << step << ": " << by_cuda << " allocations of CUDA's, " << news << " of the host's");
    }
    std::printf("%s: %llu replayed, %llu recorded\n", name.c_str(), (unsigned long long)n_replayed,
                (unsigned long long)n_recorded);
    CHECK(graphs ? n_replayed > kSteps - 10 : n_replayed + n_recorded == 0, name << ": " << n_replayed << " replays");
    CHECK(!tight || cache.statistics().rows_restored > 0, name << ": nothing was restored");
}

}  // namespace

int main() {
    counters_count();
    const Variant full = {"full", KC_POLICY_FULL, 0, 0, 0, 0, 0, 0, 0},
                  sketch = {"sketch", KC_POLICY_SKETCH, 0, 0, 6, 0, KC_SELECT_GROUP, KC_MODE_RENORMALIZED, 0};
    for (const bool graphs : {false, true}) {
        steps(full, false, graphs);
        steps(sketch, false, graphs);
        steps(sketch, true, graphs);
    }
    return kc_test::check_result();
}
