#pragma once
// A pool of threads for fork-join work, one pool per context.
//
// The calling thread is worker 0 and always takes part, so a pool of one thread owns no thread at all. A run never
// waits for a worker that has not begun: workers join an open run if they come in time, and a run is over as soon as
// all items are done and every worker that joined has left. So a busy machine, or more threads than cores, costs no
// extra latency.
//
// Which worker does which item is left to chance. Work must therefore give the same result whoever does it.

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace kc {

// Does items [begin, end). `worker` is below the pool's n_threads and unique among the calls that run at one time.
using WorkFn = void (*)(void* ctx, int64_t begin, int64_t end, int worker);

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
    void run(int64_t n_items, int64_t grain, WorkFn fn, void* ctx);

    // The same for a callable: f(begin, end, worker).
    template <class F>
    void run(int64_t n_items, int64_t grain, F&& f) {
        using Fn = std::remove_reference_t<F>;
        run(
            n_items, grain,
            [](void* ctx, int64_t begin, int64_t end, int worker) { (*static_cast<Fn*>(ctx))(begin, end, worker); },
            const_cast<void*>(static_cast<const void*>(&f)));
    }

  private:
    void start(int n_threads);
    void stop();
    void worker_loop(int worker);
    void work(int worker);
    void wait_until_left(uint32_t closed_state);

    // The run that is open, written by the caller while no worker is inside.
    struct Run {
        WorkFn fn = nullptr;
        void* ctx = nullptr;
        int64_t n_items = 0;
        int64_t grain = 1;
    };
    Run run_;

    // state_: bits 0..11 workers inside, bit 12 the run is open, bits 13..31 number of the run. Idle workers sleep on
    // it.
    alignas(64) std::atomic<uint32_t> state_{0};
    alignas(64) std::atomic<int64_t> next_{0};
    // 1 while the caller sleeps until the last worker has left.
    alignas(64) std::atomic<uint32_t> caller_sleeps_{0};
    std::atomic<bool> stopping_{false};
    int64_t spin_ns_ = 0;
    std::vector<std::thread> threads_;
};

}  // namespace kc
