#include "cpu/memory/spill.h"

#include "core/error.h"

namespace kc {

Spill::Spill(const char* dir, Reads reads) : file_(dir) {
    if (reads == Reads::best) queue_ = make_uring_queue(file_);
    if (!queue_) queue_ = make_thread_queue(file_);
}

void Spill::reserve(uint64_t n_bytes) {
    if (n_bytes <= file_.n_bytes()) return;
    file_.reserve(n_bytes);
    reserved_bytes = file_.n_bytes();
}

void Spill::write(const Backend::Move* moves, int64_t n) {
    for (int64_t i = 0; i < n; ++i) check_range("write", moves[i]);
    for (int64_t i = 0; i < n; ++i) {
        const int error = file_.write(moves[i].memory, moves[i].offset_bytes, moves[i].n_bytes);
        if (error) fail_move("write", moves[i], error);
    }
}

void Spill::read(const Backend::Move* moves, int64_t n) {
    Ticket ticket;
    read_begin(moves, n, ticket);
    read_end(ticket);
}

void Spill::read_begin(const Backend::Move* moves, int64_t n, Ticket& ticket) {
    for (int64_t i = 0; i < n; ++i) check_range("read", moves[i]);
    ticket = Ticket();
    ticket.moves = moves;
    ticket.n = n;
    if (n > 0) queue_->begin(ticket);
}

void Spill::read_end(Ticket& ticket) {
    if (ticket.n == 0) return;
    queue_->end(ticket);
    const int64_t failed = ticket.failed_move;
    const int error = ticket.error;
    const Backend::Move* moves = ticket.moves;
    ticket = Ticket();
    if (failed >= 0) fail_move("read", moves[failed], error);
}

void Spill::check_range(const char* verb, const Backend::Move& move) const {
    if (move.n_bytes <= file_.n_bytes() && move.offset_bytes <= file_.n_bytes() - move.n_bytes) return;
    fail(KC_ERR_ARGUMENT, "%s of %llu bytes at offset %llu, but the spill file is %llu bytes long: reserve it first",
         verb, static_cast<unsigned long long>(move.n_bytes), static_cast<unsigned long long>(move.offset_bytes),
         static_cast<unsigned long long>(file_.n_bytes()));
}

void Spill::fail_move(const char* verb, const Backend::Move& move, int error) const {
    fail(KC_ERR_IO, "the spill file in %s: %s of %llu bytes at offset %llu failed: %s", file_.dir().c_str(), verb,
         static_cast<unsigned long long>(move.n_bytes), static_cast<unsigned long long>(move.offset_bytes),
         SpillFile::error_text(error).c_str());
}

}  // namespace kc
