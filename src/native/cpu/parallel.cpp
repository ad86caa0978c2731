#include "cpu/parallel.h"

#include <algorithm>
#include <chrono>

namespace kc {
namespace {

constexpr uint32_t kInsideMask = 0xfff;
constexpr uint32_t kOpen = 0x1000;
constexpr uint32_t kNumberStep = 0x2000;
constexpr uint32_t kNumberMask = ~(kNumberStep - 1);
static_assert(ThreadPool::kMaxThreads <= static_cast<int>(kInsideMask));

// Long enough to bridge the gap between two kernels of a decode step, short enough that an idle pool burns nothing.
constexpr int64_t kSpinNs = 50'000;
// With more threads than cores, spinning takes the core from the thread that is waited for.
constexpr int64_t kSpinOversubscribedNs = 1'000;

// The pool whose work this thread is doing, and as which worker.
thread_local const ThreadPool* t_pool = nullptr;
thread_local int t_worker = 0;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Spins until `ready()` or until spin_ns have passed; says whether it became ready.
template <class Ready>
bool spin_until(int64_t spin_ns, Ready ready) {
    using Clock = std::chrono::steady_clock;
    for (int i = 0; i < 32; ++i) {
        if (ready()) return true;
        pause();
    }
    const auto end = Clock::now() + std::chrono::nanoseconds(spin_ns);
    do {
        for (int i = 0; i < 16; ++i) {
            if (ready()) return true;
            pause();
        }
    } while (Clock::now() < end);
    return false;
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) { start(n_threads); }

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::set_n_threads(int n_threads) {
    if (n_threads == this->n_threads()) return;
    stop();
    start(n_threads);
}

void ThreadPool::start(int n_threads) {
    n_threads = std::clamp(n_threads, 1, kMaxThreads);
    const int n_cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    spin_ns_ = n_threads > n_cores ? kSpinOversubscribedNs : kSpinNs;
    stopping_.store(false, std::memory_order_relaxed);
    try {
        threads_.reserve(static_cast<size_t>(n_threads) - 1);
        for (int worker = 1; worker < n_threads; ++worker)
            threads_.emplace_back([this, worker] { worker_loop(worker); });
    } catch (...) {
        stop();
        throw;
    }
}

void ThreadPool::stop() {
    stopping_.store(true);
    // A new number with the run closed wakes every sleeper, and none of them enters.
    state_.fetch_add(kNumberStep);
    state_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
}

void ThreadPool::run(int64_t n_items, int64_t grain, WorkFn fn, void* ctx) {
    if (n_items <= 0) return;
    grain = std::max<int64_t>(1, grain);
    if (t_pool == this) {
        fn(ctx, 0, n_items, t_worker);
        return;
    }
    const ThreadPool* outer_pool = t_pool;
    const int outer_worker = t_worker;
    t_pool = this;
    t_worker = 0;
    if (threads_.empty() || n_items <= grain) {
        fn(ctx, 0, n_items, 0);
    } else {
        // The run is closed and nobody is inside, so these are ours to write; opening it publishes them.
        run_ = {fn, ctx, n_items, grain};
        next_.store(0, std::memory_order_relaxed);
        const uint32_t number = (state_.load(std::memory_order_relaxed) & kNumberMask) + kNumberStep;
        state_.store(number | kOpen);
        state_.notify_all();
        work(0);
        const uint32_t inside = state_.fetch_and(~kOpen) & kInsideMask;
        if (inside != 0) wait_until_left(number);
    }
    t_pool = outer_pool;
    t_worker = outer_worker;
}

void ThreadPool::wait_until_left(uint32_t closed_state) {
    const auto left = [&] { return state_.load() == closed_state; };
    if (spin_until(spin_ns_, left)) return;
    // The last one out reads caller_sleeps_ after its own leaving, we read state_ after setting it: one of us sees the
    // other. It is set anew each time, as a straggler of an earlier run may have cleared it.
    for (;;) {
        caller_sleeps_.store(1);
        if (left()) break;
        caller_sleeps_.wait(1);
    }
    caller_sleeps_.store(0);
}

void ThreadPool::work(int worker) {
    const Run run = run_;
    for (;;) {
        const int64_t begin = next_.fetch_add(run.grain, std::memory_order_relaxed);
        if (begin >= run.n_items) return;
        run.fn(run.ctx, begin, std::min(begin + run.grain, run.n_items), worker);
    }
}

void ThreadPool::worker_loop(int worker) {
    t_pool = this;
    t_worker = worker;
    uint32_t seen = state_.load(std::memory_order_relaxed);
    // A run that was open at that moment is new to this worker as well.
    uint32_t done_number = (seen & kOpen) != 0 ? (seen - kNumberStep) & kNumberMask : seen & kNumberMask;
    const auto news = [&] {
        seen = state_.load(std::memory_order_acquire);
        return (seen & kNumberMask) != done_number;
    };
    while (!stopping_.load()) {
        if (!spin_until(spin_ns_, news)) {
            while (!news() && !stopping_.load()) state_.wait(seen);
        }
        done_number = seen & kNumberMask;
        // Enter, unless the run was closed before we came.
        bool entered = false;
        while ((seen & kOpen) != 0 && (seen & kNumberMask) == done_number && !entered) {
            entered = state_.compare_exchange_weak(seen, seen + 1);
        }
        if (!entered) continue;
        work(worker);
        const uint32_t before = state_.fetch_sub(1);
        if ((before & kInsideMask) == 1 && (before & kOpen) == 0 && caller_sleeps_.load() != 0) {
            caller_sleeps_.store(0);
            caller_sleeps_.notify_one();
        }
    }
}

}  // namespace kc
