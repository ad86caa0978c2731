// Positioned reads through io_uring, by its system calls alone. Reads that the page cache can answer are copied while
// they are submitted; the others are in flight until a completion is reaped.
#include "cpu/memory/read_queue.h"

#if defined(__linux__) && __has_include(<linux/io_uring.h>)

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace kc {
namespace {

// The ring's indices are shared with the kernel.
unsigned load_acquire(const unsigned* p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
void store_release(unsigned* p, unsigned value) { __atomic_store_n(p, value, __ATOMIC_RELEASE); }

class UringQueue : public ReadQueue {
  public:
    static std::unique_ptr<ReadQueue> make(const SpillFile& file) {
        std::unique_ptr<UringQueue> queue(new UringQueue(file));
        if (!queue->open()) return nullptr;
        return queue;
    }

    ~UringQueue() override {
        if (sqes_ != MAP_FAILED) munmap(sqes_, sqes_bytes_);
        if (completion_ring_ != MAP_FAILED && completion_ring_ != submission_ring_)
            munmap(completion_ring_, completion_bytes_);
        if (submission_ring_ != MAP_FAILED) munmap(submission_ring_, submission_bytes_);
        if (ring_ >= 0) close(ring_);
    }

    void begin(ReadTicket& ticket) override {
        (last_ ? last_->next : first_) = &ticket;
        last_ = &ticket;
        reap();
        submit(0);
    }

    void end(ReadTicket& ticket) override {
        reap();
        while (ticket.n_done < ticket.n) {
            submit(1);
            reap();
        }
    }

  private:
    static constexpr unsigned kDepth = 128;

    // A read that the kernel has, or a free place.
    struct Flight {
        ReadTicket* ticket;
        int64_t index;
    };

    explicit UringQueue(const SpillFile& file) : file_(file) {
        for (unsigned i = 0; i < kDepth; ++i) free_[i] = i;
    }

    bool open() {
        io_uring_params params;
        std::memset(&params, 0, sizeof params);
        ring_ = static_cast<int>(syscall(SYS_io_uring_setup, kDepth, &params));
        // RW_CUR_POS came with the same kernel as IORING_OP_READ.
        if (ring_ < 0 || !(params.features & IORING_FEAT_RW_CUR_POS) || !(params.features & IORING_FEAT_NODROP))
            return false;
        submission_bytes_ = params.sq_off.array + params.sq_entries * sizeof(unsigned);
        completion_bytes_ = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
        const bool single = params.features & IORING_FEAT_SINGLE_MMAP;
        if (single) submission_bytes_ = completion_bytes_ = std::max(submission_bytes_, completion_bytes_);
        submission_ring_ = map(submission_bytes_, IORING_OFF_SQ_RING);
        if (submission_ring_ == MAP_FAILED) return false;
        completion_ring_ = single ? submission_ring_ : map(completion_bytes_, IORING_OFF_CQ_RING);
        if (completion_ring_ == MAP_FAILED) return false;
        sqes_bytes_ = params.sq_entries * sizeof(io_uring_sqe);
        sqes_ = map(sqes_bytes_, IORING_OFF_SQES);
        if (sqes_ == MAP_FAILED) return false;
        auto* sq = static_cast<char*>(submission_ring_);
        auto* cq = static_cast<char*>(completion_ring_);
        sq_tail_ = reinterpret_cast<unsigned*>(sq + params.sq_off.tail);
        sq_mask_ = *reinterpret_cast<unsigned*>(sq + params.sq_off.ring_mask);
        sq_array_ = reinterpret_cast<unsigned*>(sq + params.sq_off.array);
        cq_head_ = reinterpret_cast<unsigned*>(cq + params.cq_off.head);
        cq_tail_ = reinterpret_cast<unsigned*>(cq + params.cq_off.tail);
        cq_mask_ = *reinterpret_cast<unsigned*>(cq + params.cq_off.ring_mask);
        cqes_ = reinterpret_cast<io_uring_cqe*>(cq + params.cq_off.cqes);
        return answers();
    }

    // A sandbox may offer the ring and refuse to serve it.
    bool answers() {
        std::memset(sqes_, 0, sizeof(io_uring_sqe));
        static_cast<io_uring_sqe*>(sqes_)->opcode = IORING_OP_NOP;
        sq_array_[0] = 0;
        store_release(sq_tail_, 1);
        if (syscall(SYS_io_uring_enter, ring_, 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0) != 1) return false;
        store_release(cq_head_, load_acquire(cq_tail_));
        return true;
    }

    void* map(size_t n_bytes, uint64_t offset) {
        return mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring_,
                    static_cast<off_t>(offset));
    }

    // Hands waiting reads to the kernel as far as there is room, and returns when n_wait of all in flight are over.
    void submit(unsigned n_wait) {
        unsigned n_new = 0;
        unsigned tail = *sq_tail_;
        while (first_ && n_flights_ < kDepth) {
            ReadTicket& ticket = *first_;
            const int64_t index = ticket.n_issued++;
            if (ticket.n_issued == ticket.n) {
                first_ = ticket.next;
                if (!first_) last_ = nullptr;
            }
            const Backend::Move& move = ticket.moves[index];
            const unsigned place = free_[kDepth - 1 - n_flights_++];
            flights_[place] = {&ticket, index};
            const unsigned slot = tail & sq_mask_;
            io_uring_sqe& sqe = static_cast<io_uring_sqe*>(sqes_)[slot];
            std::memset(&sqe, 0, sizeof sqe);
            sqe.opcode = IORING_OP_READ;
            sqe.fd = static_cast<int>(file_.handle());
            sqe.addr = reinterpret_cast<uint64_t>(move.memory);
            sqe.off = move.offset_bytes;
            sqe.len = static_cast<uint32_t>(std::min<uint64_t>(move.n_bytes, 1u << 30));
            sqe.user_data = place;
            sq_array_[slot] = slot;
            ++tail;
            ++n_new;
        }
        store_release(sq_tail_, tail);
        n_unsubmitted_ += n_new;
        if (n_unsubmitted_ == 0 && n_wait == 0) return;
        if (n_flights_ == 0) return;
        const long n =
            syscall(SYS_io_uring_enter, ring_, n_unsubmitted_, n_wait, n_wait ? IORING_ENTER_GETEVENTS : 0, nullptr, 0);
        if (n > 0) n_unsubmitted_ -= std::min(static_cast<unsigned>(n), n_unsubmitted_);
        // A failed call (interrupted, or no resources for now) has taken nothing: the entries are still in the ring and
        // go with the next call, which end() makes until its ticket is done.
    }

    void reap() {
        unsigned head = *cq_head_;
        const unsigned tail = load_acquire(cq_tail_);
        for (; head != tail; ++head) {
            const io_uring_cqe& cqe = cqes_[head & cq_mask_];
            const auto place = static_cast<unsigned>(cqe.user_data);
            finish(flights_[place], cqe.res);
            free_[kDepth - n_flights_--] = place;
        }
        store_release(cq_head_, head);
    }

    void finish(const Flight& flight, int result) {
        ReadTicket& ticket = *flight.ticket;
        const Backend::Move& move = ticket.moves[flight.index];
        int error = 0;
        // Interrupted or cut short: the rest is read here.
        const uint64_t n_read = result > 0 ? static_cast<uint64_t>(result) : 0;
        if (result < 0 && result != -EINTR && result != -EAGAIN) {
            error = -result;
        } else if (n_read < move.n_bytes) {
            error =
                file_.read(static_cast<char*>(move.memory) + n_read, move.offset_bytes + n_read, move.n_bytes - n_read);
        }
        if (error && ticket.failed_move < 0) {
            ticket.failed_move = flight.index;
            ticket.error = error;
        }
        ++ticket.n_done;
    }

    const SpillFile& file_;
    int ring_ = -1;
    void* submission_ring_ = MAP_FAILED;
    void* completion_ring_ = MAP_FAILED;
    void* sqes_ = MAP_FAILED;
    size_t submission_bytes_ = 0;
    size_t completion_bytes_ = 0;
    size_t sqes_bytes_ = 0;
    unsigned* sq_tail_ = nullptr;
    unsigned* sq_array_ = nullptr;
    unsigned* cq_head_ = nullptr;
    unsigned* cq_tail_ = nullptr;
    io_uring_cqe* cqes_ = nullptr;
    unsigned sq_mask_ = 0;
    unsigned cq_mask_ = 0;
    ReadTicket* first_ = nullptr;  // tickets with reads that the kernel does not have yet
    ReadTicket* last_ = nullptr;
    Flight flights_[kDepth] = {};
    unsigned free_[kDepth];  // the first kDepth - n_flights_ are free places
    unsigned n_flights_ = 0;
    unsigned n_unsubmitted_ = 0;
};

}  // namespace

std::unique_ptr<ReadQueue> make_uring_queue(const SpillFile& file) { return UringQueue::make(file); }

}  // namespace kc

#else

namespace kc {

std::unique_ptr<ReadQueue> make_uring_queue(const SpillFile&) { return nullptr; }

}  // namespace kc

#endif
