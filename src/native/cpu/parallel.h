#pragma once
// A pool of threads for fork-join work, one pool per context.
//
// The calling thread is worker 0 and always takes part, so a pool of one thread owns no thread at all. A run never
// waits for a worker that has not begun: workers join an open run if they come in time, and a run is over as soon as
// all pieces are done. So a busy machine, or more threads than cores, costs no extra latency.
//
// A line of memory takes some hundred nanoseconds from core to core, as long as a small piece of work. So every worker
// has a share of the pieces on a line of its own, and looks at the others' when its own is used up.
//
// Which worker does which item is left to chance. Work must therefore give the same result whoever does it. But a run
// may ask for keeping to the shares, so that runs that are cut alike find their data where the last one left it.

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace kc {

// Does items [begin, end). `worker` is below the pool's n_threads and unique among the calls that run at one time.
using WorkFn = void (*)(void* ctx, int64_t begin, int64_t end, int worker);

// When a worker whose share is used up takes pieces of others'.
enum class Stealing {
    kAtOnce,
    kLate,  // when they have had time enough: somebody else has their core, or their pieces are larger
};

class ThreadPool {
  public:
    static constexpr int kMaxThreads = 1024;

    // n_threads counts the caller; it is held between 1 and kMaxThreads. Throws std::system_error when the system gives
    // no more threads.
    explicit ThreadPool(int n_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int n_threads() const { return static_cast<int>(threads_.size()) + 1; }

    // Not while a run is under way.
    void set_n_threads(int n_threads);

    // Runs fn over [0, n_items) and returns when all are done. Pieces are `grain` items long, or all items are one
    // piece: when they are no more than a grain, when the pool has one thread, and when called from inside a run of the
    // same pool (then under that caller's worker index). fn must not throw. One thread at a time may start runs; runs
    // of different pools are independent.
    void run(int64_t n_items, int64_t grain, WorkFn fn, void* ctx, Stealing stealing = Stealing::kAtOnce);

    // The same for a callable: f(begin, end, worker).
    template <class F>
    void run(int64_t n_items, int64_t grain, F&& f, Stealing stealing = Stealing::kAtOnce) {
        using Fn = std::remove_reference_t<F>;
        run(
            n_items, grain,
            [](void* ctx, int64_t begin, int64_t end, int worker) { (*static_cast<Fn*>(ctx))(begin, end, worker); },
            const_cast<void*>(static_cast<const void*>(&f)), stealing);
    }

  private:
    void start(int n_threads);
    void stop();
    void worker_loop(int worker, uint32_t seen);
    int64_t work_as_caller(uint32_t number, int64_t n_pieces);
    void work_as_worker(int worker, uint32_t number);
    int64_t work_share(int worker, int share, uint32_t number);
    void count(int share, int64_t n_done);
    bool have_done(int64_t n_pieces) const;
    void wait_until_done(int64_t n_pieces);

    // What a run is. Every share has a copy, so that a worker who has a piece has it at hand.
    struct Run {
        WorkFn fn = nullptr;
        void* ctx = nullptr;
        int64_t n_items = 0;
        int64_t grain = 1;
        int64_t end = 0;  // of the pieces of this share
        Stealing stealing = Stealing::kAtOnce;
    };
    // left: the run's number in the upper half, how many pieces of the share are left in the lower one. Whoever lowers
    // it under the number of a run has a piece of that run, which then cannot end without him; only he may read `run`.
    struct alignas(128) Share {
        std::atomic<uint64_t> left{0};
        std::atomic<int64_t> n_done{0};  // pieces that this share's workers have done, wherever they took them
        Run run;
    };
    static constexpr int kMaxShares = 16;
    Share shares_[kMaxShares];
    int n_shares_ = 1;

    // Of the run that is open, or was last. Idle workers watch it, and sleep on it.
    alignas(128) std::atomic<uint32_t> number_{0};
    // 1 while the caller sleeps until all pieces are done.
    alignas(128) std::atomic<uint32_t> caller_sleeps_{0};
    std::atomic<int> n_sleeping_{0};
    std::atomic<bool> stopping_{false};
    int64_t spin_ns_ = 0;
    std::vector<std::thread> threads_;
};

}  // namespace kc
