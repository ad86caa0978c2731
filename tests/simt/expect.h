// The few lines that the machine's own tests are written with.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "device/launch.h"

#define EXPECT(condition)                                                                 \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            std::fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                 \
        }                                                                                 \
    } while (0)

template <class T>
T* on_device(size_t n) {
    void* memory;
    EXPECT(cudaMalloc(&memory, n * sizeof(T)) == cudaSuccess);
    return static_cast<T*>(memory);
}
template <class T>
T* pinned(size_t n) {
    void* memory;
    EXPECT(cudaHostAlloc(&memory, n * sizeof(T), cudaHostAllocDefault) == cudaSuccess);
    return static_cast<T*>(memory);
}
inline cudaStream_t new_stream() {
    cudaStream_t stream;
    EXPECT(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    return stream;
}
inline cudaEvent_t new_event() {
    cudaEvent_t event;
    EXPECT(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
    return event;
}
