// Reads in flight. A ticket is a group of reads that the caller waits for as a whole; it and its moves live in the
// caller's memory until it has ended, so that nothing is allocated per read.
#pragma once

#include <cstdint>
#include <memory>

#include "core/backend.h"
#include "cpu/memory/spill_file.h"

namespace kc {

struct ReadTicket {
    const Backend::Move* moves = nullptr;
    int64_t n = 0;
    int64_t n_issued = 0;
    int64_t n_done = 0;
    int64_t failed_move = -1;
    int error = 0;  // of failed_move: the first failure
    ReadTicket* next = nullptr;
};

class ReadQueue {
  public:
    virtual ~ReadQueue() = default;
    // Starts the reads of a ticket that is filled in with moves and n.
    virtual void begin(ReadTicket& ticket) = 0;
    // Returns when all of its reads are over, well or not.
    virtual void end(ReadTicket& ticket) = 0;
};

// nullptr where the system does not offer io_uring.
std::unique_ptr<ReadQueue> make_uring_queue(const SpillFile& file);
std::unique_ptr<ReadQueue> make_thread_queue(const SpillFile& file);

}  // namespace kc
