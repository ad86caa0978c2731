// Memory that runs out: the slow home takes smaller slabs where large ones cannot be pinned, down to what is free, and
// then an error says what was wanted; nothing that was there before is lost.
#include "cache_harness.h"
#include "machine.h"

using namespace harness;

namespace {

constexpr uint64_t kMiB = 1 << 20;

struct Spill {
    kc_spill* handle = nullptr;
    explicit Spill(const Context& context) {
        must(kc_spill_create(context.handle, nullptr, &handle), "kc_spill_create");
    }
    ~Spill() { kc_spill_destroy(handle); }
    Spill(const Spill&) = delete;
    Spill& operator=(const Spill&) = delete;
};

void expect_message(const char* part) {
    CHECK(std::strstr(kc_last_message(), part) != nullptr, "no '" << part << "' in: " << kc_last_message());
}

void pins_in_smaller_slabs() {
    const Context context;
    Spill spill(context);
    const size_t before = simt::used_bytes(simt::Space::pinned);
    // 43 MiB are free: neither 64 nor, behind 32, another 32; but 8 and 2 are.
    simt::set_limit_bytes(simt::Space::pinned, before + 43 * kMiB);
    CHECK(kc_spill_reserve(spill.handle, 50 * kMiB) == KC_ERR_MEMORY, kc_last_message());
    expect_message("is to hold 52428800 bytes, but only 44040192 bytes can be pinned");  // 50 and 42 MiB
    CHECK(simt::used_bytes(simt::Space::pinned) == before, "a failed call keeps nothing");
    must(kc_spill_reserve(spill.handle, 41 * kMiB), "kc_spill_reserve of what is free");
    CHECK(simt::used_bytes(simt::Space::pinned) - before == 42 * kMiB,
          simt::used_bytes(simt::Space::pinned) - before << " bytes pinned");

    // A row across the border of two slabs, and one across that of two chunks.
    std::vector<float> row(64 * 1024);
    for (size_t i = 0; i < row.size(); ++i) row[i] = noise(i);
    const Rows from(context, row), to(context, std::vector<float>(row.size()));
    const uint64_t n_bytes = row.size() * sizeof(float), places[] = {32 * kMiB - 65552, 4 * kMiB - 16};
    for (const uint64_t place : places) {
        must(kc_spill_write(spill.handle, place, from.data(), n_bytes), "kc_spill_write");
    }

    CHECK(kc_spill_reserve(spill.handle, 60 * kMiB) == KC_ERR_MEMORY, kc_last_message());
    expect_message("bytes of this machine's memory are free");
    for (const uint64_t place : places) {
        std::vector<float> back(row.size(), NAN);
        must(kc_spill_read(spill.handle, place, to.data(), n_bytes), "kc_spill_read");
        to.read(back);
        CHECK(same_bits(back, row), "at " << place);
    }
    simt::set_limit_bytes(simt::Space::pinned, before + 80 * kMiB);
    must(kc_spill_reserve(spill.handle, 60 * kMiB), "kc_spill_reserve once there is memory");
}

void says_what_the_device_has() {
    const Context context;
    const size_t used = simt::used_bytes(simt::Space::device);
    simt::set_limit_bytes(simt::Space::device, used + 10 * kMiB);
    kc_buffer* buffer = nullptr;
    CHECK(kc_buffer_create(context.handle, 11 * kMiB, &buffer) == KC_ERR_MEMORY, kc_last_message());
    expect_message("11534336 bytes of device memory are wanted on simulated, which has 10485760 of ");
    must(kc_buffer_create(context.handle, 9 * kMiB, &buffer), "kc_buffer_create of what is free");
    kc_buffer_destroy(buffer);
    simt::set_limit_bytes(simt::Space::device, size_t{8} << 30);
}

}  // namespace

int main() {
    pins_in_smaller_slabs();
    says_what_the_device_has();
    return kc_test::check_result();
}
