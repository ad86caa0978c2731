// Positioned reads by a few threads of their own, for systems without io_uring. (On Windows a positioned read through
// an OVERLAPPED offset is what they call.)
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "cpu/memory/read_queue.h"

namespace kc {
namespace {

class ThreadQueue : public ReadQueue {
  public:
    explicit ThreadQueue(const SpillFile& file) : file_(file) {
        threads_.reserve(kThreads);
        try {
            for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { work(); });
        } catch (...) {
            stop();
            throw;
        }
    }

    ~ThreadQueue() override { stop(); }

    void begin(ReadTicket& ticket) override {
        {
            std::lock_guard lock(mutex_);
            (last_ ? last_->next : first_) = &ticket;
            last_ = &ticket;
        }
        if (ticket.n == 1) {
            work_there_.notify_one();
        } else {
            work_there_.notify_all();
        }
    }

    void end(ReadTicket& ticket) override {
        std::unique_lock lock(mutex_);
        ticket_done_.wait(lock, [&] { return ticket.n_done == ticket.n; });
    }

  private:
    // A disk answers several reads at once; they wait, not compute.
    static constexpr int kThreads = 8;

    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            work_there_.wait(lock, [&] { return stopping_ || first_; });
            if (stopping_) return;
            ReadTicket& ticket = *first_;
            const int64_t index = ticket.n_issued++;
            if (ticket.n_issued == ticket.n) {
                first_ = ticket.next;
                if (!first_) last_ = nullptr;
            }
            const Backend::Move move = ticket.moves[index];
            lock.unlock();
            const int error = file_.read(move.memory, move.offset_bytes, move.n_bytes);
            lock.lock();
            if (error && ticket.failed_move < 0) {
                ticket.failed_move = index;
                ticket.error = error;
            }
            if (++ticket.n_done == ticket.n) ticket_done_.notify_all();
        }
    }

    void stop() {
        {
            std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        work_there_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    const SpillFile& file_;
    std::mutex mutex_;
    std::condition_variable work_there_;
    std::condition_variable ticket_done_;
    ReadTicket* first_ = nullptr;  // tickets with reads that nobody has taken yet
    ReadTicket* last_ = nullptr;
    bool stopping_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<ReadQueue> make_thread_queue(const SpillFile& file) { return std::make_unique<ThreadQueue>(file); }

}  // namespace kc
