// The thread pool: every item exactly once, nesting, two pools at once, oversubscription, sleep and wake, resizing.
#include "cpu/parallel.h"

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "check.h"

namespace {

using kc::Stealing;
using kc::ThreadPool;

constexpr Stealing kBoth[] = {Stealing::kAtOnce, Stealing::kLate};

void every_item_once() {
    for (const int n_threads : {1, 2, 3, 7, 20}) {  // 20: several threads share a share
        ThreadPool pool(n_threads);
        CHECK(pool.n_threads() == n_threads, pool.n_threads());
        for (const int64_t n_items : {0, 1, 2, 3, 7, 64, 1000}) {
            for (const auto& [grain, stealing] : {std::pair<int64_t, Stealing>{1, Stealing::kAtOnce},
                                                  {2, Stealing::kLate},
                                                  {5, Stealing::kAtOnce},
                                                  {1, Stealing::kLate},
                                                  {100, Stealing::kLate}}) {
                std::vector<std::atomic<int>> seen(static_cast<size_t>(n_items));
                std::atomic<int> bad_worker{0};
                const auto look = [&](int64_t begin, int64_t end, int worker) {
                    if (worker < 0 || worker >= n_threads) ++bad_worker;
                    for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
                };
                pool.run(n_items, grain, look, stealing);
                bool once = true;
                for (const auto& n : seen) once = once && n == 1;
                CHECK(once, n_threads << " threads, " << n_items << " items, grain " << grain);
                CHECK(bad_worker == 0, n_threads << " threads");
            }
        }
    }
}

// A worker index is never in use twice at one time: scratch indexed by it needs no lock.
void workers_are_exclusive() {
    ThreadPool pool(5);
    int64_t plain[5] = {};  // a race here is what TSan looks for
    for (int round = 0; round < 200; ++round) {
        const auto add = [&](int64_t begin, int64_t end, int worker) { plain[worker] += end - begin; };
        pool.run(64, 1, add, kBoth[round % 2]);
    }
    int64_t sum = 0;
    for (const int64_t n : plain) sum += n;
    CHECK(sum == 200 * 64, sum);
}

// What the caller wrote before is seen inside, what workers wrote is seen after: thousands of short runs.
void short_runs() {
    for (const int n_threads : {2, 3}) {
        ThreadPool pool(n_threads);
        std::vector<int64_t> data(8);
        for (int round = 0; round < 5000; ++round) {
            data.assign(8, round);
            const auto add = [&](int64_t begin, int64_t, int) { data[static_cast<size_t>(begin)] += begin; };
            pool.run(8, 1, add, kBoth[round % 2]);
            bool ok = true;
            for (int64_t i = 0; i < 8; ++i) ok = ok && data[static_cast<size_t>(i)] == round + i;
            if (!ok) {
                CHECK(ok, "round " << round);
                return;
            }
        }
        CHECK(true, "");
    }
}

void nested_runs_are_inline() {
    ThreadPool pool(3);
    std::atomic<int> n{0};
    std::atomic<int> foreign_worker{0};
    pool.run(8, 1, [&](int64_t, int64_t, int outer) {
        pool.run(10, 1, [&](int64_t begin, int64_t end, int inner) {
            if (inner != outer) ++foreign_worker;
            n += static_cast<int>(end - begin);
        });
    });
    CHECK(n == 80, n.load());
    CHECK(foreign_worker == 0, foreign_worker.load());
}

void pool_inside_another() {
    ThreadPool outer(3);
    std::vector<std::unique_ptr<ThreadPool>> inner;
    for (int i = 0; i < 3; ++i) inner.push_back(std::make_unique<ThreadPool>(2));
    std::atomic<int> n{0};
    for (int round = 0; round < 50; ++round) {
        outer.run(6, 1, [&](int64_t, int64_t, int worker) {
            inner[static_cast<size_t>(worker)]->run(
                10, 1, [&](int64_t begin, int64_t end, int) { n += static_cast<int>(end - begin); });
        });
    }
    CHECK(n == 50 * 60, n.load());
}

void two_pools_at_once() {
    std::atomic<int64_t> total{0};
    std::vector<std::thread> callers;
    for (int c = 0; c < 2; ++c) {
        callers.emplace_back([&] {
            ThreadPool pool(3);
            for (int round = 0; round < 1000; ++round) {
                pool.run(16, 1, [&](int64_t begin, int64_t end, int) { total += end - begin; });
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(total == 2 * 1000 * 16, total.load());
}

void sleeps_and_wakes() {
    ThreadPool pool(4);
    for (int round = 0; round < 20; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));  // far beyond the spin time
        std::atomic<int> n{0};
        pool.run(32, 1, [&](int64_t, int64_t, int) { ++n; });
        CHECK(n == 32, n.load());
    }
}

// Pieces of a worker that is held up are done by the others.
void slow_pieces_hold_up_no_others() {
    ThreadPool pool(2);
    for (int round = 0; round < 6; ++round) {
        std::atomic<int> n_others{0};
        std::atomic<bool> alone{false};
        int n_meanwhile = -1;
        const auto work = [&](int64_t begin, int64_t, int) {
            if (begin != 0 && begin != 32) {
                ++n_others;
                return;
            }
            // The first to come here waits for all others, for up to a second on a busy machine.
            if (alone.exchange(true)) return;
            for (int i = 0; i < 1000 && n_others < 62; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            n_meanwhile = n_others;
        };
        pool.run(64, 1, work, kBoth[round % 2]);
        // None at all: on a busy machine the other did not begin in time.
        CHECK(n_meanwhile == 62 || n_meanwhile == 0, n_meanwhile);
        CHECK(n_others == 62, n_others.load());
    }
}

// The caller ends before a slow worker: it must sleep until the worker has left, and see its work.
void waits_for_slow_worker() {
    ThreadPool pool(2);
    for (int round = 0; round < 20; ++round) {
        int result[2] = {};
        std::atomic<bool> other_began{false};
        const auto work = [&](int64_t begin, int64_t, int worker) {
            if (worker == 0) {
                // Leave the other item to the worker, for up to a second on a busy machine.
                for (int i = 0; i < 1000 && !other_began; ++i)
                    std::this_thread::sleep_for(std::chrono::milliseconds(1));
            } else {
                other_began = true;
                std::this_thread::sleep_for(std::chrono::milliseconds(3));
            }
            result[begin] = 1;
        };
        pool.run(2, 1, work, kBoth[round % 2]);
        CHECK(result[0] == 1 && result[1] == 1, "round " << round);
    }
}

void idle_pool_burns_nothing() {
    ThreadPool pool(4);
    std::atomic<int> n{0};
    pool.run(64, 1, [&](int64_t, int64_t, int) { ++n; });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const auto cpu_ms = [] {
        rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000.0 +
               static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000.0;
    };
    const double before = cpu_ms();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const double spent = cpu_ms() - before;
    CHECK(spent < 50, spent << " ms of processor time in 200 ms of idleness");
}

void resizes() {
    ThreadPool pool(1);
    for (const int n_threads : {3, 1, 7, 2, 2}) {
        pool.set_n_threads(n_threads);
        std::atomic<int> n{0};
        pool.run(50, 1, [&](int64_t begin, int64_t end, int) { n += static_cast<int>(end - begin); });
        CHECK(n == 50 && pool.n_threads() == n_threads, n.load());
    }
    for (int i = 0; i < 50; ++i) ThreadPool short_lived(4);  // destroyed before its threads have begun
}

}  // namespace

int main() {
    every_item_once();
    workers_are_exclusive();
    short_runs();
    nested_runs_are_inline();
    pool_inside_another();
    two_pools_at_once();
    sleeps_and_wakes();
    slow_pieces_hold_up_no_others();
    waits_for_slow_worker();
    idle_pool_burns_nothing();
    resizes();
    return kc_test::check_result();
}
