// The slow home of the CPU backend: a file without a name and asynchronous positioned reads of it.
#pragma once

#include <memory>

#include "core/context.h"
#include "cpu/memory/read_queue.h"
#include "cpu/memory/spill_file.h"

namespace kc {

class Spill : public kc_spill {
  public:
    enum class Reads { best, threads };

    using Ticket = ReadTicket;

    // dir as in SpillFile. `best` reads through io_uring where the system offers it, else through threads.
    explicit Spill(const char* dir, Reads reads = Reads::best);

    void reserve(uint64_t n_bytes);

    void write(const Backend::Move* moves, int64_t n);
    void read(const Backend::Move* moves, int64_t n);

    // Asynchronous: `moves` and `ticket` stay where they are and untouched until read_end. Several tickets may be in
    // flight. Every ticket that was begun must be ended. One thread at a time.
    void read_begin(const Backend::Move* moves, int64_t n, Ticket& ticket);
    // Waits for all reads of the ticket; throws an Error (IO) when one failed.
    void read_end(Ticket& ticket);

  private:
    void check_range(const char* verb, const Backend::Move& move) const;
    [[noreturn]] void fail_move(const char* verb, const Backend::Move& move, int error) const;

    SpillFile file_;
    std::unique_ptr<ReadQueue> queue_;  // after file_: it reads from it
};

}  // namespace kc
