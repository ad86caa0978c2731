// What the device and its bus can do at most, measured in the same run as what is held against it.
#pragma once

#include <cstddef>

namespace bench {

struct Floors {
    double device_read = 0;  // bytes a second: a kernel that reads device memory and little else
    double pinned_rows = 0;  // a kernel that reads rows of 256 bytes of pinned memory in random order
    double pinned_copy = 0;  // the copy engine, from pinned to device memory
};

// n_bytes of device memory and of pinned memory are taken for it. Each figure is the best of several rounds.
Floors measure_floors(size_t n_bytes, int n_rounds);

// Within device memory; returns when it is done.
void copy_on_device(void* to, const void* from, size_t n_bytes);

}  // namespace bench
