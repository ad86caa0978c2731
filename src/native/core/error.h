// The one error type of the host code. api/guard.h turns it into a status and a message at the C boundary.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <exception>
#include <string>

#include "kcache.h"

namespace kc {

class Error : public std::exception {
  public:
    Error(kc_status status, std::string message) : status_(status), message_(std::move(message)) {}
    kc_status status() const noexcept { return status_; }
    const char* what() const noexcept override { return message_.c_str(); }

  private:
    kc_status status_;
    std::string message_;
};

// Throws an Error whose sentence is printed as printf does; the sentence names the argument, both values and the way
// out.
#if defined(__GNUC__)
[[gnu::format(printf, 2, 3)]]
#endif
[[noreturn]] inline void
fail(kc_status status, const char* format, ...) {
    char text[768];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof text, format, args);
    va_end(args);
    throw Error(status, text);
}

}  // namespace kc
