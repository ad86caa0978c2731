#include "cpu/parallel.h"

#include <algorithm>
#include <chrono>

namespace kc {
namespace {

// So that they can be counted in 32 bits.
constexpr int64_t kMaxPieces = int64_t{1} << 30;

// Long enough to bridge the gap between two kernels of a decode step, short enough that an idle pool burns nothing.
constexpr int64_t kSpinNs = 50'000;
// With more threads than cores, spinning takes the core from the thread that is waited for.
constexpr int64_t kSpinOversubscribedNs = 1'000;

using Clock = std::chrono::steady_clock;

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

// Fetches a line that will be changed, at once for that: reading it first would take the way twice.
inline void prefetch_to_write(void* p) {
#if defined(__x86_64__)
    asm volatile("prefetchw %0" : : "m"(*static_cast<char*>(p)));
#else
    __builtin_prefetch(p, 1);
#endif
}

// Spins until `ready()` or until spin_ns have passed; says whether it became ready.
template <class Ready>
bool spin_until(int64_t spin_ns, Ready ready) {
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

// How long a worker whose share is used up waits for the others before he takes their pieces, ns: half the time that
// his took, but no longer than it takes to bring the data of a piece from another core.
int64_t patience_since(Clock::time_point then) {
    constexpr int64_t kMostNs = 10'000;
    const int64_t took = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - then).count();
    return std::min(took / 2, kMostNs);
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
    n_shares_ = std::min(n_threads, kMaxShares);
    stopping_.store(false, std::memory_order_relaxed);
    const uint32_t number = number_.load(std::memory_order_relaxed);
    try {
        threads_.reserve(static_cast<size_t>(n_threads) - 1);
        for (int worker = 1; worker < n_threads; ++worker)
            threads_.emplace_back([this, worker, number] { worker_loop(worker, number); });
    } catch (...) {
        stop();
        throw;
    }
}

void ThreadPool::stop() {
    stopping_.store(true);
    // A new number wakes every sleeper, and there is no piece under it.
    number_.fetch_add(1);
    number_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
}

void ThreadPool::run(int64_t n_items, int64_t grain, WorkFn fn, void* ctx, Stealing stealing) {
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
        if (n_items / grain >= kMaxPieces) grain *= n_items / grain / kMaxPieces + 1;
        const int64_t n_pieces = (n_items + grain - 1) / grain;
        const uint32_t number = number_.load(std::memory_order_relaxed) + 1;
        // All pieces of the run before are done, so the shares are ours to write.
        int64_t begin = 0;
        for (int s = 0; s < n_shares_; ++s) {
            const int64_t end = (n_pieces * (s + 1) + n_shares_ - 1) / n_shares_;
            shares_[s].run = {fn, ctx, n_items, grain, end, stealing};
            shares_[s].n_done.store(0, std::memory_order_relaxed);
            // The very first piece is the caller's: its work hides the time in which these lines change hands.
            const uint64_t left = static_cast<uint64_t>(end - begin - (s == 0 ? 1 : 0));
            shares_[s].left.store(uint64_t{number} << 32 | left, std::memory_order_release);
            begin = end;
        }
        number_.store(number, std::memory_order_release);
        // May miss who falls asleep at this moment, and does without him; a fence would cost every run more.
        if (n_sleeping_.load(std::memory_order_relaxed) != 0) number_.notify_all();
        const int64_t n_done = work_as_caller(number, n_pieces);
        if (n_done < n_pieces) wait_until_done(n_pieces - n_done);
    }
    t_pool = outer_pool;
    t_worker = outer_worker;
}

bool ThreadPool::have_done(int64_t n_pieces) const {
    int64_t n = 0;
    for (int s = 0; s < n_shares_; ++s) n += shares_[s].n_done.load();
    return n == n_pieces;
}

// Until the workers have done n_pieces.
void ThreadPool::wait_until_done(int64_t n_pieces) {
    const auto done = [&] { return have_done(n_pieces); };
    if (spin_until(spin_ns_, done)) return;
    // A worker reads caller_sleeps_ after it counted its pieces, we count after setting it: one of us sees the other.
    // It is set anew each time, as a straggler of an earlier run may have cleared it.
    for (;;) {
        caller_sleeps_.store(1);
        if (done()) break;
        caller_sleeps_.wait(1);
    }
    caller_sleeps_.store(0);
}

// Pieces of a share of run `number` until none is left; returns how many.
int64_t ThreadPool::work_share(int worker, int share, uint32_t number) {
    const bool own = share == worker % n_shares_;
    int64_t n_done = 0;
    std::atomic<uint64_t>& left = shares_[share].left;
    if (own) prefetch_to_write(&left);
    uint64_t seen = left.load(std::memory_order_relaxed);
    for (;;) {
        const int64_t n_left = static_cast<int64_t>(seen & 0xffffffffu);
        if (seen >> 32 != number || n_left == 0) return n_done;
        // From others half at a time: every look at their line costs both sides.
        const int64_t n_taken = own ? 1 : (n_left + 1) / 2;
        if (!left.compare_exchange_weak(seen, seen - static_cast<uint64_t>(n_taken), std::memory_order_acq_rel,
                                        std::memory_order_relaxed)) {
            continue;
        }
        const Run& run = shares_[share].run;
        for (int64_t piece = run.end - n_left; piece < run.end - n_left + n_taken; ++piece) {
            run.fn(run.ctx, piece * run.grain, std::min((piece + 1) * run.grain, run.n_items), worker);
        }
        n_done += n_taken;
        seen = left.load(std::memory_order_relaxed);
    }
}

// The caller's pieces of the run, the own share first, until none is left; returns how many.
int64_t ThreadPool::work_as_caller(uint32_t number, int64_t n_pieces) {
    const Clock::time_point begin = Clock::now();
    const Run& run = shares_[0].run;
    run.fn(run.ctx, 0, run.grain, 0);
    int64_t n_done = 1 + work_share(0, 0, number);
    if (run.stealing == Stealing::kLate &&
        spin_until(patience_since(begin), [&] { return have_done(n_pieces - n_done); })) {
        return n_done;
    }
    for (int share = 1; share < n_shares_; ++share) n_done += work_share(0, share, number);
    return n_done;
}

// The same for another worker of run `number`.
void ThreadPool::work_as_worker(int worker, uint32_t number) {
    const Clock::time_point begin = Clock::now();
    const int own = worker % n_shares_;
    int64_t n_done = work_share(worker, own, number);
    // As long as pieces have not been counted there is no other run.
    if (n_done > 0 && shares_[own].run.stealing == Stealing::kLate) {
        count(own, n_done);
        n_done = 0;
        const auto is_over = [&] { return number_.load(std::memory_order_acquire) != number; };
        if (spin_until(patience_since(begin), is_over)) return;
    }
    for (int i = 1; i < n_shares_; ++i) n_done += work_share(worker, (own + i) % n_shares_, number);
    if (n_done > 0) count(own, n_done);
}

void ThreadPool::count(int share, int64_t n_done) {
    shares_[share].n_done.fetch_add(n_done);
    if (caller_sleeps_.load() != 0) {
        caller_sleeps_.store(0);
        caller_sleeps_.notify_one();
    }
}

void ThreadPool::worker_loop(int worker, uint32_t seen) {
    t_pool = this;
    t_worker = worker;
    const auto news = [&] { return number_.load(std::memory_order_acquire) != seen; };
    for (;;) {
        if (!spin_until(spin_ns_, news)) {
            n_sleeping_.fetch_add(1);
            while (!news()) number_.wait(seen);
            n_sleeping_.fetch_sub(1);
        }
        if (stopping_.load()) return;
        seen = number_.load(std::memory_order_acquire);
        work_as_worker(worker, seen);
    }
}

}  // namespace kc
