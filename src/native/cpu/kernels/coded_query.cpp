#include "cpu/kernels/coded_query.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/kernels/layout.h"

namespace kc {
namespace {

template <class Number>
CodedQuery code(const CodecBodies& codec, const float* q, const float* centre, int32_t head_dim, float scale,
                Number* numbers) {
    constexpr float kMost = std::numeric_limits<Number>::max();
    float rotated[kMaxHeadDim];
    std::copy_n(q, head_dim, rotated);
    codec.rotate(rotated, head_dim);
    float largest = 0.f, offset = 0.f;
    bool finite = true;
    for (int32_t d = 0; d < head_dim; ++d) {
        largest = std::max(largest, std::fabs(rotated[d]));
        finite = finite && std::isfinite(rotated[d]);
        offset += rotated[d] * centre[d];
    }
    const float step = finite ? largest / kMost : NAN;
    int32_t sum = 0;
    for (int32_t d = 0; d < head_dim; ++d) {
        const long number = step > 0.f ? std::lrintf(std::min(kMost, std::max(-kMost, rotated[d] / step))) : 0;
        numbers[d] = static_cast<Number>(number);
        sum += static_cast<int32_t>(number);
    }
    // Before there is a centre this is nonsense, and there is no coded row that it could meet.
    return {scale * step, scale * offset, sum, 0};
}

}  // namespace

CodedQuery code_query(const CodecBodies& codec, const float* q, const float* centre, int32_t head_dim, float scale,
                      int16_t* numbers) {
    return code(codec, q, centre, head_dim, scale, numbers);
}

CodedQuery code_query(const CodecBodies& codec, const float* q, const float* centre, int32_t head_dim, float scale,
                      int8_t* numbers) {
    return code(codec, q, centre, head_dim, scale, numbers);
}

}  // namespace kc
