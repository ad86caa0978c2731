// Calls at the wrong time and with impossible arguments: the right status, a sentence that names what is wrong, and
// nothing changed.
#include <cstring>
#include <functional>

#include "cache_harness.h"

using namespace harness;

namespace {

// A failure with this status whose sentence holds all the words.
void expect(kc_status status, kc_status wanted, std::initializer_list<const char*> words, int line) {
    CHECK(status == wanted,
          "line " << line << ": status " << status << ", not " << wanted << ": " << kc_last_message());
    for (const char* word : words) {
        CHECK(std::strstr(kc_last_message(), word),
              "line " << line << ": no \"" << word << "\" in: " << kc_last_message());
    }
}
#define EXPECT(call, status, ...) expect(call, status, {__VA_ARGS__}, __LINE__)

void versions() {
    CHECK(kc_abi() == KC_ABI, kc_abi());
    CHECK(std::strcmp(kc_version(), "0.1.0") == 0, kc_version());
}

void contexts() {
    kc_context_desc desc = {};
    kc_context* context = nullptr;
    EXPECT(kc_context_create(nullptr, &context), KC_ERR_ARGUMENT, "desc is NULL");
    EXPECT(kc_context_create(&desc, &context), KC_ERR_ARGUMENT, "desc->size is 0", "20");
    desc.size = sizeof desc;
    EXPECT(kc_context_create(&desc, nullptr), KC_ERR_ARGUMENT, "out is NULL");
    desc.backend = 3;
    EXPECT(kc_context_create(&desc, &context), KC_ERR_ARGUMENT, "backend is 3", "0 to 2");
    desc.backend = KC_BACKEND_CPU;
    desc.device = 1;
    EXPECT(kc_context_create(&desc, &context), KC_ERR_ARGUMENT, "device is 1");
    desc.device = 0;
    desc.n_threads = -1;
    EXPECT(kc_context_create(&desc, &context), KC_ERR_ARGUMENT, "n_threads is -1");
    CHECK(context == nullptr, "a failed call writes nothing");
    EXPECT(kc_context_info_get(nullptr, nullptr), KC_ERR_ARGUMENT, "context is NULL");

    int32_t n_devices = -1;
    EXPECT(kc_device_count(KC_BACKEND_AUTO, &n_devices), KC_ERR_ARGUMENT, "backend is 0", "1 to 2");
    EXPECT(kc_device_count(KC_BACKEND_CPU, nullptr), KC_ERR_ARGUMENT, "out_n_devices is NULL");
    CHECK(kc_device_count(KC_BACKEND_CPU, &n_devices) == KC_OK && n_devices == 1, n_devices);
    kc_device_info device = {};
    EXPECT(kc_device_info_get(KC_BACKEND_CPU, 0, &device), KC_ERR_ARGUMENT, "out->size is 0");
    device.size = sizeof device;
    EXPECT(kc_device_info_get(KC_BACKEND_CPU, 1, &device), KC_ERR_ARGUMENT, "device is 1");
    must(kc_device_info_get(KC_BACKEND_CPU, 0, &device), "kc_device_info_get");
    CHECK(device.name[0] != 0 && device.isa[0] != 0 && device.free_bytes <= device.total_bytes, device.name);
    // Either there is a device, or the message says why not.
    if (kc_device_count(KC_BACKEND_CUDA, &n_devices) == KC_OK) {
        CHECK(n_devices > 0, n_devices);
        must(kc_device_info_get(KC_BACKEND_CUDA, 0, &device), "kc_device_info_get");
        CHECK(device.total_bytes > 0, device.name);
    } else {
        EXPECT(kc_device_count(KC_BACKEND_CUDA, &n_devices), KC_ERR_UNSUPPORTED, "backend is KC_BACKEND_CUDA (2)");
        EXPECT(kc_device_info_get(KC_BACKEND_CUDA, 0, &device), KC_ERR_UNSUPPORTED, "backend is KC_BACKEND_CUDA (2)");
    }
    CHECK(kc_context_destroy(nullptr) == KC_OK, kc_last_message());
    kc_buffer_destroy(nullptr);
    kc_cache_destroy(nullptr);
    kc_spill_destroy(nullptr);
}

void buffers() {
    Context context;
    kc_buffer* buffer = nullptr;
    must(kc_buffer_create(context.handle, 5000, &buffer), "kc_buffer_create");
    CHECK(reinterpret_cast<uintptr_t>(kc_buffer_data(buffer)) % 4096 == 0, "aligned to a page");
    const auto* bytes = static_cast<const unsigned char*>(kc_buffer_data(buffer));
    CHECK(bytes[0] == 0 && bytes[4999] == 0, "zeroed");
    CHECK(context.info().live_bytes == 5000 && context.info().n_live_objects == 1, context.info().live_bytes);
    char text[4] = "abc";
    must(kc_buffer_write(buffer, 4996, text, 4), "kc_buffer_write");
    char back[4] = {};
    must(kc_buffer_read(buffer, 4996, back, 4), "kc_buffer_read");
    CHECK(std::memcmp(text, back, 4) == 0, back);
    EXPECT(kc_buffer_write(buffer, 4997, text, 4), KC_ERR_ARGUMENT, "4997", "5000");
    EXPECT(kc_buffer_read(buffer, ~uint64_t(0), back, 4), KC_ERR_ARGUMENT, "5000");
    EXPECT(kc_buffer_read(buffer, 0, nullptr, 4), KC_ERR_ARGUMENT, "host is NULL");
    EXPECT(kc_buffer_create(context.handle, uint64_t(1) << 60, &buffer), KC_ERR_MEMORY, "memory");
    EXPECT(kc_context_destroy(context.handle), KC_ERR_STATE, "1 buffers");
    kc_buffer_destroy(buffer);
    must(kc_buffer_wrap(context.handle, text, sizeof text, &buffer), "kc_buffer_wrap");
    CHECK(kc_buffer_data(buffer) == text, "in place");
    CHECK(context.info().live_bytes == 0, "no memory of its own");
    kc_buffer_destroy(buffer);
}

void operators() {
    Context context;
    float x[64] = {}, out[64];
    const int32_t ids[2] = {0, 7};
    kc_matrix matrix = {x, 2, 16, KC_TYPE_F32, 0};
    EXPECT(kc_rms_norm(context.handle, x, x, -1, 16, 1e-5f, out), KC_ERR_ARGUMENT, "-1");
    EXPECT(kc_rms_norm(context.handle, nullptr, x, 1, 16, 1e-5f, out), KC_ERR_ARGUMENT, "x is NULL");
    EXPECT(kc_rms_norm(context.handle, x, x, int64_t(1) << 40, int64_t(1) << 40, 1e-5f, out), KC_ERR_ARGUMENT,
           "no memory holds");
    EXPECT(kc_rope(context.handle, x, 1, 1, 16, 9, 0, out), KC_ERR_ARGUMENT, "n_pairs is 9", "8");
    EXPECT(kc_rope(context.handle, x, 1, 1, 16, 8, 2, out), KC_ERR_ARGUMENT, "pairing is 2");
    EXPECT(kc_embed(context.handle, &matrix, ids, 2, out), KC_ERR_ARGUMENT, "ids[1] is 7", "0 to 1");
    EXPECT(kc_matrix_expand(context.handle, &matrix, 1, 2, out), KC_ERR_ARGUMENT, "n_rows is 2", "0 to 1");
    EXPECT(kc_matrix_expand(context.handle, &matrix, -1, 1, out), KC_ERR_ARGUMENT, "first_row is -1");
    EXPECT(kc_context_stream(context.handle, nullptr), KC_ERR_ARGUMENT, "out_stream is NULL");
    matrix.type = 77;
    EXPECT(kc_embed(context.handle, &matrix, ids, 1, out), KC_ERR_ARGUMENT, "type 77");
    kc_matmul_params params = {};
    EXPECT(kc_matmul(context.handle, &params), KC_ERR_ARGUMENT, "size is 0");
    params.size = sizeof params;
    EXPECT(kc_matmul(context.handle, &params), KC_ERR_ARGUMENT, "n_outputs is 0");
    params.n_outputs = 1;
    params.n_tokens = 1;
    params.n_cols = 32;
    params.x = x;
    params.outputs[0].weight = {x, 2, 16, KC_TYPE_F32, 0};
    params.outputs[0].out = out;
    EXPECT(kc_matmul(context.handle, &params), KC_ERR_ARGUMENT, "outputs[0].weight has 16 columns", "32");
    params.outputs[0].weight = {x, 2, 33, KC_TYPE_Q8_0, 0};
    params.n_cols = 33;
    EXPECT(kc_matmul(context.handle, &params), KC_ERR_ARGUMENT, "multiple of its block");
    CHECK(kc_matrix_bytes(KC_TYPE_Q8_0, 2, 64) == 2 * 68, kc_matrix_bytes(KC_TYPE_Q8_0, 2, 64));
    CHECK(kc_matrix_bytes(KC_TYPE_Q8_0, 2, 63) == 0 && kc_matrix_bytes(99, 2, 64) == 0, "unknown sizes are 0");
    CHECK(kc_block_bytes(KC_CODEC_F16, 64) == 64 * 128, kc_block_bytes(KC_CODEC_F16, 64));
    CHECK(kc_block_bytes(KC_CODEC_F16, 63) == 0 && kc_block_bytes(9, 64) == 0, "not offered is 0");
}

// Every description that create must refuse, and the words that say why.
void descriptions() {
    Context context;
    const Shape shape;
    const auto refuse = [&](const std::function<void(kc_cache_desc&)>& change, kc_status status,
                            std::initializer_list<const char*> words, int line) {
        kc_cache_desc desc = describe(shape, KC_POLICY_KCACHE, 256);
        desc.n_keep = 8;
        change(desc);
        kc_memory memory = {};
        memory.size = sizeof memory;
        kc_cache* cache = nullptr;
        expect(kc_cache_memory(context.handle, &desc, &memory), status, words, line);
        expect(kc_cache_create(context.handle, &desc, &cache), status, words, line);
        CHECK(cache == nullptr && context.info().live_bytes == 0, "line " << line);
        if (cache) kc_cache_destroy(cache);
    };
#define REFUSE(change, status, ...) refuse([](kc_cache_desc& d) { change; }, status, {__VA_ARGS__}, __LINE__)
    REFUSE(d.size = 8, KC_ERR_ARGUMENT, "desc->size is 8");
    REFUSE(d.n_layers = 0, KC_ERR_ARGUMENT, "n_layers is 0");
    REFUSE(d.n_q_heads = 5, KC_ERR_ARGUMENT, "n_q_heads is 5", "n_kv_heads, which is 2");
    REFUSE(d.n_kv_heads = -2, KC_ERR_ARGUMENT, "n_kv_heads is -2");
    REFUSE(d.head_dim = 24, KC_ERR_ARGUMENT, "head_dim is 24", "16");
    REFUSE(d.head_dim = 272, KC_ERR_ARGUMENT, "head_dim is 272", "256");
    REFUSE(d.n_context = 0, KC_ERR_ARGUMENT, "n_context is 0");
    REFUSE(d.n_sequences = -1, KC_ERR_ARGUMENT, "n_sequences is -1");
    REFUSE(d.n_batch_tokens = -1, KC_ERR_ARGUMENT, "n_batch_tokens is -1");
    REFUSE(d.n_pool_tokens = -1, KC_ERR_ARGUMENT, "n_pool_tokens is -1");
    REFUSE(d.scale = NAN, KC_ERR_ARGUMENT, "scale");
    REFUSE(d.policy = 4, KC_ERR_ARGUMENT, "policy is 4");
    REFUSE(d.mode = 2, KC_ERR_ARGUMENT, "mode is 2");
    REFUSE(d.select = -1, KC_ERR_ARGUMENT, "select is -1");
    REFUSE(d.k_codec = 6, KC_ERR_ARGUMENT, "k_codec is 6");
    REFUSE(d.n_keep = -1, KC_ERR_ARGUMENT, "n_keep is -1");
    REFUSE(d.n_sink = 65, KC_ERR_ARGUMENT, "n_sink is 65", "64");
    REFUSE(d.n_recent = 0, KC_ERR_ARGUMENT, "n_recent is 0");
    REFUSE(d.n_dense_layers = 4, KC_ERR_ARGUMENT, "n_dense_layers is 4", "3");
    REFUSE(d.max_tail = 1.5f, KC_ERR_ARGUMENT, "max_tail is 1.5");
    REFUSE(d.max_error = -0.5f, KC_ERR_ARGUMENT, "max_error is -0.5");
    REFUSE((d.max_tail = 0.1f, d.n_keep_max = 4), KC_ERR_ARGUMENT, "n_keep_max is 4", "n_keep, which is 8");
    REFUSE(d.k_codec = KC_CODEC_Q4, KC_ERR_UNSUPPORTED, "k_codec is q4", "kcache", "f16, q8");
    REFUSE(d.v_codec = KC_CODEC_Q2, KC_ERR_UNSUPPORTED, "v_codec is q2", "f16, q8");
    REFUSE(d.v_sketch = KC_CODEC_Q2, KC_ERR_UNSUPPORTED, "v_sketch is q2", "none");
    REFUSE((d.policy = KC_POLICY_WINDOW, d.max_tail = 0.1f), KC_ERR_UNSUPPORTED, "max_tail", "window");
    REFUSE((d.policy = KC_POLICY_WINDOW, d.mode = KC_MODE_EXACT_WEIGHTS), KC_ERR_UNSUPPORTED, "exact-weights",
           "window");
    REFUSE((d.policy = KC_POLICY_SKETCH, d.mode = KC_MODE_EXACT_WEIGHTS), KC_ERR_UNSUPPORTED, "exact-weights",
           "sketch");
    REFUSE((d.policy = KC_POLICY_SKETCH, d.v_codec = KC_CODEC_Q8), KC_ERR_UNSUPPORTED, "v_codec is q8", "sketch");
    REFUSE((d.policy = KC_POLICY_SKETCH, d.v_sketch = KC_CODEC_F16), KC_ERR_UNSUPPORTED, "v_sketch is f16");
    REFUSE((d.n_context = 1 << 26, d.n_sequences = 1 << 16), KC_ERR_ARGUMENT, "n_sequences");
    REFUSE((d.n_context = 1 << 26, d.n_layers = 4096, d.n_q_heads = d.n_kv_heads = 4096, d.head_dim = 256),
           KC_ERR_ARGUMENT, "bytes");
    kc_cache_desc desc = describe(shape, KC_POLICY_KCACHE, 256);
    desc.spill_dir = "/no/such/directory";
    kc_cache* cache = nullptr;
    EXPECT(kc_cache_create(context.handle, &desc, &cache), KC_ERR_IO, "/no/such/directory");
    desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
    EXPECT(kc_cache_create(context.handle, &desc, &cache), KC_ERR_IO, "/no/such/directory");
    CHECK(context.info().live_bytes == 0 && context.info().n_live_objects == 0, context.info().live_bytes);
}

void sequences() {
    Context context;
    const Shape shape;
    kc_cache_desc desc = describe(shape, KC_POLICY_FULL, 128);
    desc.n_sequences = 2;
    desc.n_batch_tokens = 64;
    desc.n_pool_tokens = 128;
    Cache cache(context, shape, desc);
    const int32_t a = cache.open();
    int32_t n = -1, b = -1;
    EXPECT(kc_sequence_length(cache.handle, 1, &n), KC_ERR_ARGUMENT, "sequence 1 is not open");
    EXPECT(kc_sequence_length(cache.handle, 2, &n), KC_ERR_ARGUMENT, "sequence is 2", "0 to 1");
    EXPECT(kc_sequence_fork(cache.handle, -1, &b), KC_ERR_ARGUMENT, "sequence is -1");
    b = cache.open();
    EXPECT(kc_sequence_create(cache.handle, &n), KC_ERR_CAPACITY, "all 2 sequences");
    EXPECT(kc_sequence_fork(cache.handle, a, &n), KC_ERR_CAPACITY, "all 2 sequences");
    cache.prompt(a, text(100, 1), 60);
    EXPECT(kc_sequence_truncate(cache.handle, a, 101), KC_ERR_ARGUMENT, "n_tokens is 101", "has 100");
    EXPECT(kc_sequence_truncate(cache.handle, a, -1), KC_ERR_ARGUMENT, "n_tokens is -1");
    EXPECT(cache.begin({}), KC_ERR_ARGUMENT, "entries is NULL");
    EXPECT(cache.begin({{a, {1}, 0}, {a, {1}, 0}}), KC_ERR_ARGUMENT, "entries[1].sequence is 0", "already");
    EXPECT(cache.begin({{a, {}, 0}}), KC_ERR_ARGUMENT, "entries[0].n_tokens is 0");
    EXPECT(cache.begin({{a, {1}, 2}}), KC_ERR_ARGUMENT, "entries[0].kind is 2");
    EXPECT(cache.begin({{a, text(29, 1), 0}}), KC_ERR_CAPACITY, "29", "100", "n_context is 128");
    EXPECT(cache.begin({{b, text(65, 1), 0}}), KC_ERR_CAPACITY, "65", "n_batch_tokens is 64");
    const kc_batch_entry absurd = {b, INT32_MAX, 0};
    EXPECT(kc_cache_begin(cache.handle, &absurd, 1), KC_ERR_CAPACITY, "n_context");
    EXPECT(kc_cache_begin(cache.handle, &absurd, 3), KC_ERR_CAPACITY, "n_entries is 3", "1 to 2");
    // The pool: 128 tokens over two sequences are three pages at most.
    cache.prompt(b, text(64, 2), 60);
    EXPECT(cache.begin({{b, {1}, 0}}), KC_ERR_CAPACITY, "3 pages of the pool");
    must(kc_sequence_length(cache.handle, b, &n), "length");
    CHECK(n == 64, n);
    must(kc_sequence_truncate(cache.handle, a, 64), "truncate");
    cache.prompt(b, text(5, 2), 60);
}

// Under `window` what was forgotten cannot come back.
void forgotten() {
    Context context;
    const Shape shape;
    kc_cache_desc desc = describe(shape, KC_POLICY_WINDOW, 1024);
    desc.n_recent = 70;
    desc.n_batch_tokens = 50;
    Cache cache(context, shape, desc);
    cache.prompt(cache.open(), text(500, 1), 50);
    EXPECT(kc_sequence_truncate(cache.handle, 0, 300), KC_ERR_ARGUMENT, "window", "500");
    must(kc_sequence_truncate(cache.handle, 0, 499), "truncate by one");
    must(kc_sequence_truncate(cache.handle, 0, 0), "truncate to nothing");
    cache.prompt(0, text(100, 2), 50);
}

void order() {
    Context context;
    Shape shape;
    shape.n_layers = 2;
    kc_cache_desc desc = describe(shape, KC_POLICY_KCACHE, 128);
    Cache cache(context, shape, desc);
    const int32_t a = cache.open();
    std::vector<float> k(size_t(shape.kv_width()), 1), q(size_t(shape.q_width()), 1), out(q);
    const auto append = [&](int32_t layer) { return kc_cache_append(cache.handle, layer, k.data(), k.data()); };
    const auto attend = [&](int32_t layer) { return kc_cache_attend(cache.handle, layer, q.data(), out.data()); };
    EXPECT(append(0), KC_ERR_STATE, "kc_cache_append", "kc_cache_begin");
    EXPECT(attend(0), KC_ERR_STATE, "kc_cache_attend", "kc_cache_begin");
    EXPECT(kc_cache_commit(cache.handle), KC_ERR_STATE, "kc_cache_begin");
    must(kc_cache_rollback(cache.handle), "rollback of nothing");
    must(cache.begin({{a, {1}, KC_ENTRY_DECODE}}), "begin");
    EXPECT(cache.begin({{a, {1}, KC_ENTRY_DECODE}}), KC_ERR_STATE, "kc_cache_begin between");
    int32_t n = 0;
    EXPECT(kc_sequence_create(cache.handle, &n), KC_ERR_STATE, "kc_sequence_create between");
    EXPECT(kc_sequence_fork(cache.handle, a, &n), KC_ERR_STATE, "kc_sequence_fork between");
    EXPECT(kc_sequence_truncate(cache.handle, a, 0), KC_ERR_STATE, "kc_sequence_truncate between");
    EXPECT(kc_sequence_free(cache.handle, a), KC_ERR_STATE, "kc_sequence_free between");
    EXPECT(kc_sequence_length(cache.handle, a, &n), KC_ERR_STATE, "kc_sequence_length between");
    EXPECT(kc_cache_statistics_reset(cache.handle), KC_ERR_STATE, "kc_cache_statistics_reset between");
    EXPECT(attend(0), KC_ERR_STATE, "next is kc_cache_append of layer 0");
    EXPECT(append(1), KC_ERR_STATE, "next is kc_cache_append of layer 0");
    EXPECT(append(2), KC_ERR_ARGUMENT, "layer is 2", "0 to 1");
    EXPECT(append(-1), KC_ERR_ARGUMENT, "layer is -1");
    EXPECT(kc_cache_append(cache.handle, 0, nullptr, k.data()), KC_ERR_ARGUMENT, "k is NULL");
    must(append(0), "append");
    EXPECT(append(0), KC_ERR_STATE, "next is kc_cache_attend of layer 0");
    EXPECT(append(1), KC_ERR_STATE, "next is kc_cache_attend of layer 0");
    EXPECT(kc_cache_attend(cache.handle, 0, q.data(), nullptr), KC_ERR_ARGUMENT, "out is NULL");
    must(attend(0), "attend");
    EXPECT(attend(0), KC_ERR_STATE, "next is kc_cache_append of layer 1");
    EXPECT(kc_cache_commit(cache.handle), KC_ERR_STATE, "layer 1 of 2 has not been appended");
    must(append(1), "append");
    EXPECT(kc_cache_commit(cache.handle), KC_ERR_STATE, "layer 1 of 2 has not been attended");
    must(attend(1), "attend");
    EXPECT(append(1), KC_ERR_STATE, "all 2 layers are done");
    must(kc_cache_commit(cache.handle), "commit");
    EXPECT(kc_cache_commit(cache.handle), KC_ERR_STATE, "without a forward");
    must(kc_sequence_length(cache.handle, a, &n), "length");
    CHECK(n == 1, n);
    kc_statistics statistics = {};
    EXPECT(kc_cache_statistics(cache.handle, -1, &statistics), KC_ERR_ARGUMENT, "out->size is 0");
    statistics.size = sizeof statistics;
    EXPECT(kc_cache_statistics(cache.handle, 2, &statistics), KC_ERR_ARGUMENT, "layer is 2");
    must(kc_cache_statistics_reset(cache.handle), "reset");
    must(cache.begin({{a, {1}, KC_ENTRY_DECODE}}), "begin");  // destroyed in the middle of a forward
}

}  // namespace

int main() {
    versions();
    contexts();
    buffers();
    operators();
    descriptions();
    sequences();
    forgotten();
    order();
    return kc_test::check_result();
}
