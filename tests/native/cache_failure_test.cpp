// What goes wrong in the slow home: a disk that is full, reads that fail. The call says so, nothing is lost, and the
// same cache goes on when the trouble is over.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include "cache_harness.h"

using namespace harness;

namespace {

kc_cache_desc describe_tight(const Context& context, const Shape& shape, int32_t policy) {
    kc_cache_desc desc = describe(shape, policy, 1024);
    desc.n_keep = 8;
    desc.n_sink = 4;
    desc.n_batch_tokens = 64;
    desc.fast_budget_bytes = plan(context, desc).fast_minimum_bytes;
    return desc;
}

kc_cache_desc resident(const Shape& shape, int32_t policy) {
    kc_cache_desc desc = describe(shape, policy, 1024);
    desc.n_keep = 8;
    desc.n_sink = 4;
    return desc;
}

// Files may not grow: what stands for a full disk.
class FullDisk {
  public:
    FullDisk() {
        getrlimit(RLIMIT_FSIZE, &before_);
        rlimit none = before_;
        none.rlim_cur = 1;
        setrlimit(RLIMIT_FSIZE, &none);
    }
    ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }

  private:
    rlimit before_;
};

void full_disk(int32_t policy) {
    Shape shape;
    Context context;
    Cache cache(context, shape, describe_tight(context, shape, policy));
    Cache alone(context, shape, resident(shape, policy));
    const int32_t sequence = cache.open();
    alone.open();
    const std::vector<uint32_t> words = text(900, 1);
    bool failed = false;
    for (size_t at = 0; at + 60 <= words.size(); at += 60) {
        const std::vector<Work> batch = {
            {sequence, {words.begin() + long(at), words.begin() + long(at) + 60}, KC_ENTRY_PROMPT}};
        kc_memory before = {}, after = {};
        before.size = after.size = sizeof before;
        must(kc_cache_usage(cache.handle, &before), "usage");
        {
            FullDisk full;
            const kc_status status = cache.begin(batch);
            if (status == KC_OK) must(kc_cache_rollback(cache.handle), "rollback");
            if (status != KC_OK) {
                failed = true;
                CHECK(status == KC_ERR_IO, status << ": " << kc_last_message());
                CHECK(std::strstr(kc_last_message(), "cannot grow"), kc_last_message());
                int32_t n = 0;
                must(kc_sequence_length(cache.handle, sequence, &n), "length");
                CHECK(n == int32_t(at), n << " tokens, not " << at);
                CHECK(kc_cache_append(cache.handle, 0, nullptr, nullptr) < 0, "no forward is under way");
                must(kc_cache_usage(cache.handle, &after), "usage");
                CHECK(after.slow_bytes == before.slow_bytes, after.slow_bytes);
            }
        }
        const std::vector<float> rows = cache.run(batch);
        CHECK(same_bits(rows, alone.run(batch)), "policy " << policy << ", prompt at " << at);
    }
    CHECK(failed, "the disk was never needed");
    for (uint32_t step = 0; step < 10; ++step) {
        const std::vector<Work> batch = {{sequence, {step}, KC_ENTRY_DECODE}};
        const std::vector<float> rows = cache.run(batch);
        CHECK(same_bits(rows, alone.run(batch)), "policy " << policy << ", step " << step);
    }
}

// The file descriptor of the spill file: the newest one whose name is gone.
int spill_descriptor() {
    int found = -1;
    DIR* dir = opendir("/proc/self/fd");
    while (const dirent* entry = readdir(dir)) {
        const int fd = std::atoi(entry->d_name);
        char name[256] = {};
        const std::string link = std::string("/proc/self/fd/") + entry->d_name;
        if (readlink(link.c_str(), name, sizeof name - 1) > 0 && std::strstr(name, "(deleted)"))
            found = std::max(found, fd);
    }
    closedir(dir);
    return found;
}

// The file is cut short behind the cache's back: reads fail. Attend says so, can be rolled back, and works once the
// file is whole again.
void failed_reads(int32_t policy) {
    Shape shape;
    Context context;
    Cache cache(context, shape, describe_tight(context, shape, policy));
    Cache alone(context, shape, resident(shape, policy));
    const int32_t sequence = cache.open();
    const std::vector<uint32_t> words = text(900, 1);
    cache.prompt(sequence, words, 60);
    alone.prompt(alone.open(), words, 60);
    const int fd = spill_descriptor();
    CHECK(fd >= 0, "no spill file");
    if (fd < 0) return;
    const off_t length = lseek(fd, 0, SEEK_END);
    std::vector<char> copy(static_cast<size_t>(length));
    must(pread(fd, copy.data(), copy.size(), 0) == length ? KC_OK : KC_ERR_IO, "copying the file");
    for (const int32_t kind : {KC_ENTRY_DECODE, KC_ENTRY_PROMPT}) {
        const std::vector<Work> batch = {{sequence, {7}, kind}};
        must(ftruncate(fd, 0) == 0 ? KC_OK : KC_ERR_IO, "ftruncate");
        must(cache.begin(batch), "begin");
        std::vector<float> k(size_t(shape.kv_width()), 0.5f), q(size_t(shape.q_width()), 0.5f), out(q);
        must(kc_cache_append(cache.handle, 0, k.data(), k.data()), "append");
        const kc_status status = kc_cache_attend(cache.handle, 0, q.data(), out.data());
        CHECK(status == KC_ERR_IO, status << ": " << kc_last_message());
        CHECK(std::strstr(kc_last_message(), "end of file"), kc_last_message());
        must(kc_cache_rollback(cache.handle), "rollback");
        must(pwrite(fd, copy.data(), copy.size(), 0) == length ? KC_OK : KC_ERR_IO, "the file is whole again");
        const std::vector<float> rows = cache.run(batch);
        CHECK(same_bits(rows, alone.run(batch)), "policy " << policy << ", kind " << kind);
    }
}

}  // namespace

int main() {
    signal(SIGXFSZ, SIG_DFL);
    for (const int32_t policy : {KC_POLICY_KCACHE, KC_POLICY_SKETCH}) {
        full_disk(policy);
        failed_reads(policy);
    }
    return kc_test::check_result();
}
