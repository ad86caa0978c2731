// The spill file: what is written is read, through io_uring and through threads; refusals; a disk that is full.
#include "cpu/memory/spill.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "core/error.h"

namespace {

using kc::Backend;
using kc::Spill;

template <class F>
std::string message_of(kc_status status, F&& call) {
    try {
        call();
    } catch (const kc::Error& error) {
        CHECK(error.status() == status, error.status() << ": " << error.what());
        return error.what();
    }
    return "(no error)";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::vector<uint8_t> random_bytes(size_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<uint8_t> bytes(n);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    return bytes;
}

void reads_what_was_written(Spill::Reads reads) {
    constexpr size_t kBytes = 3 << 20;
    Spill spill(nullptr, reads);
    spill.reserve(kBytes);
    CHECK(spill.reserved_bytes == kBytes, spill.reserved_bytes);
    const std::vector<uint8_t> data = random_bytes(kBytes, 1);
    const Backend::Move whole = {const_cast<uint8_t*>(data.data()), 0, kBytes};
    spill.write(&whole, 1);

    // Several tickets in flight, each with more reads than a ring holds, ended in another order.
    std::mt19937 random(2);
    constexpr int kTickets = 3, kReads = 700;
    std::vector<Backend::Move> moves[kTickets];
    std::vector<std::vector<uint8_t>> buffers[kTickets];
    Spill::Ticket tickets[kTickets];
    for (int t = 0; t < kTickets; ++t) {
        buffers[t].resize(kReads);
        for (int i = 0; i < kReads; ++i) {
            const size_t n = 1 + random() % 5000, at = random() % (kBytes - n);
            buffers[t][size_t(i)].resize(n);
            moves[t].push_back({buffers[t][size_t(i)].data(), at, n});
        }
        spill.read_begin(moves[t].data(), kReads, tickets[t]);
    }
    for (const int t : {1, 0, 2}) {
        spill.read_end(tickets[t]);
        bool equal = true;
        for (const Backend::Move& move : moves[t]) {
            equal = equal && std::memcmp(move.memory, &data[move.offset_bytes], move.n_bytes) == 0;
        }
        CHECK(equal, "ticket " << t);
    }
    Spill::Ticket empty;
    spill.read_begin(nullptr, 0, empty);
    spill.read_end(empty);

    const Backend::Move behind = {buffers[0][0].data(), kBytes - 1, 2};
    CHECK(contains(message_of(KC_ERR_ARGUMENT, [&] { spill.read(&behind, 1); }), std::to_string(kBytes)), "range");
    CHECK(contains(message_of(KC_ERR_ARGUMENT, [&] { spill.write(&behind, 1); }), "reserve"), "range");
}

// One of many reads goes to memory that is not there: the error says where, the other reads are over when it is thrown.
void failed_read(Spill::Reads reads) {
    Spill spill(nullptr, reads);
    spill.reserve(1 << 16);
    std::vector<uint8_t> buffer(1 << 12);
    std::vector<Backend::Move> moves;
    for (uint64_t i = 0; i < 10; ++i) moves.push_back({buffer.data() + i * 64, i * 64, 64});
    moves[7].memory = reinterpret_cast<void*>(uintptr_t(64));
    const std::string message = message_of(KC_ERR_IO, [&] { spill.read(moves.data(), 10); });
    CHECK(contains(message, "448") && contains(message, "Bad address"), message);
    moves[7].memory = buffer.data();
    spill.read(moves.data(), 10);
}

void refusals() {
    const std::string missing = message_of(KC_ERR_IO, [] { Spill spill("/no/such/directory"); });
    CHECK(contains(missing, "/no/such/directory") && contains(missing, "No such file"), missing);
    const std::string file = message_of(KC_ERR_IO, [] { Spill spill("/proc/version"); });
    CHECK(contains(file, "not a directory"), file);
    struct stat status;
    if (stat("/dev/shm", &status) == 0) {
        const std::string memory = message_of(KC_ERR_IO, [] { Spill spill("/dev/shm"); });
        CHECK(contains(memory, "tmpfs") || contains(memory, "/dev/shm"), memory);
    }
    if (geteuid() != 0) {
        const std::string closed = message_of(KC_ERR_IO, [] { Spill spill("/"); });
        CHECK(contains(closed, "denied"), closed);
    }
}

// A limit on the size of files stands in for a full disk; it must not end the process.
void full_disk() {
    Spill spill(nullptr);
    spill.reserve(1 << 20);
    const std::vector<uint8_t> data = random_bytes(1 << 20, 3);
    const Backend::Move whole = {const_cast<uint8_t*>(data.data()), 0, data.size()};
    spill.write(&whole, 1);
    rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    rlimit small = before;
    small.rlim_cur = 2 << 20;
    setrlimit(RLIMIT_FSIZE, &small);
    const std::string message = message_of(KC_ERR_IO, [&] { spill.reserve(3 << 20); });
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(contains(message, "1048576") && contains(message, "3145728") && contains(message, "too large"), message);
    CHECK(spill.reserved_bytes == 1 << 20, spill.reserved_bytes);
    std::vector<uint8_t> back(1 << 20);
    const Backend::Move read = {back.data(), 0, back.size()};
    spill.read(&read, 1);
    CHECK(back == data, "what was there is still there");
    spill.reserve(3 << 20);
    CHECK(spill.reserved_bytes == 3 << 20, spill.reserved_bytes);
    const std::string huge = message_of(KC_ERR_IO, [&] { spill.reserve(uint64_t(1) << 60); });
    CHECK(contains(huge, "cannot grow"), huge);
}

}  // namespace

int main() {
    for (const Spill::Reads reads : {Spill::Reads::best, Spill::Reads::threads}) {
        reads_what_was_written(reads);
        failed_read(reads);
    }
    refusals();
    full_disk();
    return kc_test::check_result();
}
