// attention_full against double precision and against decode steps: a prompt's rows have the bits of a decode step,
// however the prompt is cut and wherever its values lie.
#include <tuple>

#include "check.h"
#include "decode_step.h"

namespace {

using namespace kc_test;

// Appends and attends new rows of sequence s: q [n, n_q_heads, head_dim].
std::vector<float> attend(kc::CpuContext& context, CacheCase& cache, int s, const std::vector<float>& k,
                          const std::vector<float>& v, const std::vector<float>& q, int n_sink = 0, int n_recent = -1) {
    cache.append(context, s, k, v);
    kc_attention_full_params params = {};
    params.n_sequences = 1;
    params.layer = &cache.layer;
    params.sequences = &cache.sequences[static_cast<size_t>(s)];
    std::vector<std::vector<uint8_t>> staged_pages(static_cast<size_t>(params.sequences->n_pages));
    std::vector<const uint8_t*> staged(staged_pages.size());
    for (size_t p = 0; p < staged.size(); ++p) {
        const int32_t slot = params.sequences->pages[p].exact;
        if (slot >= 0) continue;
        const kc_exact_store& exact = cache.layer.exact;
        staged_pages[p].resize(static_cast<size_t>(exact.slot_stride_bytes));
        const kc::Backend::Move move = {
            staged_pages[p].data(), static_cast<uint64_t>(exact.spill_offset_bytes + ~slot * exact.spill_stride_bytes),
            static_cast<uint64_t>(exact.slot_stride_bytes)};
        cache.spill()->read(&move, 1);
        staged[p] = staged_pages[p].data();
    }
    const uint8_t* const* staged_list = staged.data();
    params.staged = &staged_list;
    params.n_sink = n_sink;
    params.n_recent = n_recent;
    params.q = q.data();
    std::vector<uint8_t> scratch(kc::attention_full_scratch_bytes(context, cache.layer, params.sequences->n_pages * 64),
                                 0xff);
    params.scratch = scratch.data();
    std::vector<float> out(q.size(), NAN);
    params.out = out.data();
    kc::attention_full(context, params);
    return out;
}

std::vector<float> slice(const std::vector<float>& x, int begin, int end, int width) {
    return {x.begin() + begin * width, x.begin() + end * width};
}

struct Prompt {
    std::vector<float> k, v, q;
    Prompt(const CacheShape& shape, int n) {
        CacheCase dice({1, 1, 16}, 1, 1, 99);
        k = dice.normal(static_cast<size_t>(n * shape.n_kv_heads * shape.head_dim));
        v = dice.normal(k.size());
        q = dice.normal(static_cast<size_t>(n * shape.n_q_heads * shape.head_dim));
    }
};

void against_reference(const kc::Kernels* kernels, const CacheShape& shape, int n, int n_sink, int n_recent) {
    TestContext context(kernels, 2);
    CacheCase cache(shape, 1, (n + 63) / 64 + 1);
    const Prompt prompt(shape, n);
    const std::vector<float> out = attend(context.cpu, cache, 0, prompt.k, prompt.v, prompt.q, n_sink, n_recent);
    round_all(kernels, cache.k[0]);
    round_all(kernels, cache.v[0]);
    double worst = 0;
    for (int t = 0; t < n; t += 1 + n / 50) {
        std::vector<int> tokens;
        for (int i = 0; i <= t; ++i) {
            if (n_recent < 0 || i < n_sink || i > t - n_recent) tokens.push_back(i);
        }
        for (int h = 0; h < shape.n_q_heads; ++h) {
            const int at = (t * shape.n_q_heads + h) * shape.head_dim;
            const std::vector<double> expected =
                reference_attention(cache, 0, prompt.q.data() + at, h / shape.group(), tokens);
            for (int d = 0; d < shape.head_dim; ++d) {
                worst = std::max(worst, std::abs(out[static_cast<size_t>(at + d)] - expected[static_cast<size_t>(d)]));
            }
        }
    }
    CHECK(worst < 3e-5, kernels->name << " head_dim " << shape.head_dim << " group " << shape.group() << " tokens " << n
                                      << ": off by " << worst);
}

// The same rows through pieces of the prompt and through decode steps under `full`.
void same_bits(const kc::Kernels* kernels, const CacheShape& shape, int n) {
    const Prompt prompt(shape, n);
    const int kv_width = shape.n_kv_heads * shape.head_dim, q_width = shape.n_q_heads * shape.head_dim;
    std::vector<float> whole;
    for (const int n_threads : {1, 2, 3, 5}) {
        TestContext context(kernels, n_threads);
        CacheCase cache(shape, 1, (n + 63) / 64);
        const std::vector<float> out = attend(context.cpu, cache, 0, prompt.k, prompt.v, prompt.q);
        if (whole.empty()) whole = out;
        CHECK(out == whole, kernels->name << ": " << n_threads << " threads give other bits");
    }
    TestContext context(kernels, 2);
    CacheShape spilled = shape;
    spilled.exact = true;
    spilled.v_codec = 0;
    for (const int cut : {1, 7, 64, 100}) {
        if (cut == 1 && n > 300) continue;
        for (const bool slow : {false, true}) {
            CacheCase cache(slow ? spilled : shape, 1, (n + 63) / 64);
            bool same = true;
            for (int begin = 0; begin < n; begin += cut) {
                const int end = std::min(n, begin + cut);
                const std::vector<float> out =
                    attend(context.cpu, cache, 0, slice(prompt.k, begin, end, kv_width),
                           slice(prompt.v, begin, end, kv_width), slice(prompt.q, begin, end, q_width));
                same = same && out == slice(whole, begin, end, q_width);
                if (slow) {
                    for (int p = 0; p < end / 64; ++p) {
                        if (cache.page(0, p).exact >= 0) cache.spill_page(0, p);
                    }
                }
            }
            CHECK(same, kernels->name << ": pieces of " << cut << (slow ? ", spilled," : "") << " give other bits");
        }
    }
    CacheCase cache(shape, 1, (n + 63) / 64);
    bool same = true;
    for (int t = 0; t < n; ++t) {
        cache.append(context.cpu, 0, slice(prompt.k, t, t + 1, kv_width), slice(prompt.v, t, t + 1, kv_width));
        if (t % 37 != 0 && t != n - 1) continue;
        DecodeStep step(cache, slice(prompt.q, t, t + 1, q_width), {});
        same = same && step.run(context.cpu) == slice(whole, t, t + 1, q_width);
    }
    CHECK(same, kernels->name << " head_dim " << shape.head_dim << ": decode steps give other bits");
}

// Tokens that stand out from the first and the last page, so that weights are large or are made against another score.
void tokens_stand_out(const kc::Kernels* kernels) {
    const CacheShape shape = {3, 1, 64};
    const int n = 500;
    TestContext context(kernels, 2);
    CacheCase whole(shape, 1, 9), decode(shape, 1, 9);
    Prompt prompt(shape, n);
    // A key points to where a head of the last token looks.
    for (const auto& [t, nats, head] : {std::tuple{150, 20.f, 0}, {300, 70.f, 1}}) {
        const float* q = prompt.q.data() + ((n - 1) * 3 + head) * 64;
        float squares = 0;
        for (int d = 0; d < 64; ++d) squares += q[d] * q[d];
        for (int d = 0; d < 64; ++d) {
            prompt.k[static_cast<size_t>(t * 64 + d)] = q[d] * nats / squares / whole.layer.scale;
        }
    }
    const std::vector<float> out = attend(context.cpu, whole, 0, prompt.k, prompt.v, prompt.q);
    decode.append(context.cpu, 0, prompt.k, prompt.v);
    DecodeStep step(decode, slice(prompt.q, n - 1, n, 3 * 64), {});
    CHECK(step.run(context.cpu) == slice(out, n - 1, n, 3 * 64), kernels->name << ": decode steps give other bits");
    round_all(kernels, whole.k[0]);
    round_all(kernels, whole.v[0]);
    for (int h = 0; h < 3; ++h) {
        const int at = ((n - 1) * 3 + h) * 64;
        const std::vector<double> expected = reference_attention(whole, 0, prompt.q.data() + at, 0, all_tokens(n));
        for (int d = 0; d < 64; ++d) {
            const double off = std::abs(out[static_cast<size_t>(at + d)] - expected[static_cast<size_t>(d)]);
            CHECK(off < 1e-4, kernels->name << ", head " << h << ": off by " << off);
        }
    }
}

// Several prompts in one forward are what each is alone.
void many_sequences(const kc::Kernels* kernels) {
    TestContext context(kernels, 3);
    const CacheShape shape = {4, 2, 32};
    const std::vector<int> lengths = {3, 100, 1, 65};
    CacheCase together(shape, 4, 4);
    std::vector<float> q, expected;
    int first_row = 0;
    for (int s = 0; s < 4; ++s) {
        const int n = lengths[static_cast<size_t>(s)];
        const Prompt prompt(shape, n);
        CacheCase alone(shape, 1, 4);
        const std::vector<float> out = attend(context.cpu, alone, 0, prompt.k, prompt.v, prompt.q);
        expected.insert(expected.end(), out.begin(), out.end());
        together.append(context.cpu, s, prompt.k, prompt.v);
        together.sequences[static_cast<size_t>(s)].first_row = first_row;
        first_row += n;
        q.insert(q.end(), prompt.q.begin(), prompt.q.end());
    }
    kc_attention_full_params params = {};
    params.n_sequences = 4;
    params.layer = &together.layer;
    params.sequences = together.sequences.data();
    params.n_recent = -1;
    params.q = q.data();
    std::vector<uint8_t> scratch(kc::attention_full_scratch_bytes(context.cpu, together.layer, 128), 0xff);
    params.scratch = scratch.data();
    std::vector<float> out(q.size(), NAN);
    params.out = out.data();
    kc::attention_full(context.cpu, params);
    CHECK(out == expected, kernels->name << ": several prompts in one forward differ from each alone");
}

}  // namespace

int main() {
    for (const kc::Kernels* kernels : all_kernels()) {
        for (const int head_dim : {16, 32, 48, 64, 80, 96, 128, 256}) {
            for (const int group : {1, 2, 3, 4, 7, 8}) {
                if (head_dim != 64 && group != 3 && group != 8) continue;
                for (const int n : {1, 2, 65, 150}) against_reference(kernels, {2 * group, 2, head_dim}, n, 0, -1);
            }
        }
        against_reference(kernels, {3, 1, 64}, 1200, 0, -1);
        against_reference(kernels, {3, 1, 64}, 400, 4, 40);
        against_reference(kernels, {3, 1, 64}, 400, 0, 1);
        same_bits(kernels, {6, 2, 64}, 200);
        same_bits(kernels, {3, 1, 80}, 1100);
        same_bits(kernels, {8, 1, 128}, 129);
        tokens_stand_out(kernels);
        many_sequences(kernels);
    }
    return check_result();
}
