// A query as coded keys meet it: rotated, and in integers.
#pragma once

#include "cpu/kernels/attention_score.h"
#include "cpu/kernels/codec.h"

namespace kc {

// The query q [head_dim] in numbers [head_dim], of 16 bits against q8 keys and of 8 against less, their step being a
// share of the largest. `centre` is that of the keys, rotated; `scale` is that of the scores. A query that is not
// finite makes every score NaN, to be counted.
CodedQuery code_query(const CodecBodies& codec, const float* q, const float* centre, int32_t head_dim, float scale,
                      int16_t* numbers);
CodedQuery code_query(const CodecBodies& codec, const float* q, const float* centre, int32_t head_dim, float scale,
                      int8_t* numbers);

}  // namespace kc
