// Every kind of wait between the backend's streams is needed, and the machine sees where one is missing: a cache whose
// rows come and go lives with all of them, and dies, named, without any one kind.
#include "cache_harness.h"
#include "child.h"
#include "machine.h"

using namespace harness;

namespace {

// In the order in which a context creates them.
enum Stream : uint32_t { kCompute, kPush, kFetch };

struct Kind {
    const char* name;
    Stream waits;
    Stream awaited;
};
const Kind kinds[] = {
    {"rows are pushed before they are written", kPush, kCompute},
    {"fast memory is written again before it was pushed", kCompute, kPush},
    {"rows are fetched to where kernels still read", kFetch, kCompute},
    {"rows are used before they were fetched", kCompute, kFetch},
};

// What a kernel has just written goes to the slow home. (A cache pushes only what the forward before it wrote.)
void push_at_once(const Context& context) {
    const std::vector<float> ones(4096, 1.f);
    const Rows a(context, ones), b(context, ones), sum(context, ones);
    kc_spill* spill = nullptr;
    must(kc_spill_create(context.handle, nullptr, &spill), "kc_spill_create");
    must(kc_spill_reserve(spill, ones.size() * sizeof(float)), "kc_spill_reserve");
    must(kc_add(context.handle, a.data(), b.data(), int64_t(ones.size()), sum.data()), "kc_add");
    must(kc_spill_write(spill, 0, sum.data(), ones.size() * sizeof(float)), "kc_spill_write");
    kc_spill_destroy(spill);
}

// A prompt longer than fast memory, decode steps, and a prompt that streams spilled rows back.
void play() {
    Shape shape;
    shape.n_q_heads = 2;
    shape.head_dim = 16;
    const Context context;
    push_at_once(context);
    kc_cache_desc desc = describe(shape, KC_POLICY_KCACHE, 384);
    desc.n_keep = 4;
    desc.n_recent = 2;
    desc.n_batch_tokens = 32;
    desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
    Cache cache(context, shape, desc);
    const int32_t sequence = cache.open();
    cache.prompt(sequence, text(330, 1), 32);
    for (uint32_t step = 0; step < 2; ++step) cache.run({{sequence, text(1, 10 + step), KC_ENTRY_DECODE}});
    cache.run({{sequence, text(20, 30), KC_ENTRY_PROMPT}});
    const kc_statistics statistics = cache.statistics();
    if (statistics.rows_restored == 0) std::exit(2);
}

// Plays in a child; returns what it said and how it ended.
std::string run(const Kind* dropped, uint64_t seed, int* status) {
    return run_in_child(
        [&] {
            simt::set_seed(seed);
            if (dropped) simt::drop_waits(dropped->waits, dropped->awaited);
            play();
        },
        status);
}

}  // namespace

int main() {
    int status = 0;
    for (const uint64_t seed : {1, 2}) {
        const std::string said = run(nullptr, seed, &status);
        CHECK(status == 0 && said.empty(), "with all waits, seed " << seed << ": " << said);
    }
    for (const Kind& kind : kinds) {
        for (const uint64_t seed : {1, 2}) {
            const std::string said = run(&kind, seed, &status);
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT &&
                      said.find("nothing orders the two") != std::string::npos,
                  kind.name << ", seed " << seed << ": status " << status << ": " << said);
        }
    }
    return kc_test::check_result();
}
