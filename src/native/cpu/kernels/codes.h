// How the codes of q4, q3 and q2 lie in a block.
//
// A block of 64 rows is 2 * head_dim units of 32 codes. A unit of K is 8 tokens by 4 dimensions, so that a register of
// its levels meets one quad of the query; a unit of V is 2 tokens by 16 dimensions. Codes lie in planes of 1, 2 or 4
// bits: byte i of a chunk of 32 bytes holds code i of 8, 4 or 2 consecutive units, the first unit lowest. q4 is one
// plane of 4 bits, q2 one of 2; q3 is a plane of 2 bits and, behind it, one of the high bits.
#pragma once

#include <cstdint>

namespace kc {

struct CodePlace {
    int64_t unit;
    int byte;
};
constexpr CodePlace code_place(bool is_v, int token, int d) {
    return is_v ? CodePlace{d / 16 * 32 + token / 2, token % 2 * 16 + d % 16}
                : CodePlace{d / 4 * 8 + token / 8, token % 8 * 4 + d % 4};
}
// Where level (token, d) lies among the expanded levels.
constexpr int64_t level_index(bool is_v, int token, int d) {
    const CodePlace place = code_place(is_v, token, d);
    return place.unit * 32 + place.byte;
}

}  // namespace kc
