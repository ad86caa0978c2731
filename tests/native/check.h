// The smallest test frame: a failed check prints itself with what it compared and the program goes on; main returns
// check_result().
#pragma once

#include <cstdio>
#include <sstream>
#include <string>

namespace kc_test {

inline int n_checks = 0;
inline int n_failed = 0;

inline void report(bool ok, const char* file, int line, const char* expression, const std::string& detail) {
    ++n_checks;
    if (ok) return;
    if (++n_failed <= 20) std::fprintf(stderr, "%s:%d: %s: %s\n", file, line, expression, detail.c_str());
}

inline int check_result() {
    std::printf("%d checks, %d failed\n", n_checks, n_failed);
    return n_failed == 0 && n_checks > 0 ? 0 : 1;
}

}  // namespace kc_test

// CHECK(condition, what << the << values << were)
#define CHECK(condition, ...)                                                          \
    do {                                                                               \
        const bool check_ok = static_cast<bool>(condition);                            \
        std::ostringstream check_detail;                                               \
        if (!check_ok) check_detail << __VA_ARGS__;                                    \
        kc_test::report(check_ok, __FILE__, __LINE__, #condition, check_detail.str()); \
    } while (0)
