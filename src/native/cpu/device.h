// The machine that the CPU backend runs on.
#pragma once

#include <string>

namespace kc {

// The processor's own name.
std::string cpu_name();

}  // namespace kc
