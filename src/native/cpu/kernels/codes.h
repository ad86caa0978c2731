// How the codes of q4, q3 and q2 lie in a block.
//
// A block of 64 rows is head_dim units of 64 codes. A unit of K is 16 tokens by 4 dimensions, so that a register of its
// levels meets one quad of the query; a unit of V is 16 dimensions by 4 tokens, for quads of weights. Codes lie in
// planes of 1, 2 or 4 bits: byte i of a chunk of 64 bytes holds code i of 8, 4 or 2 consecutive units, the first unit
// lowest. q4 is one plane of 4 bits, q2 one of 2; q3 is a plane of 2 bits and, behind it, one of the high bits.
#pragma once

#include <cstdint>

namespace kc {

constexpr int kUnitCodes = 64;

struct CodePlace {
    int64_t unit;
    int byte;
};
constexpr CodePlace code_place(bool is_v, int token, int d) {
    return is_v ? CodePlace{d / 16 * 16 + token / 4, d % 16 * 4 + token % 4}
                : CodePlace{d / 4 * 4 + token / 16, token % 16 * 4 + d % 4};
}
// Where level (token, d) lies among the expanded levels.
constexpr int64_t level_index(bool is_v, int token, int d) {
    const CodePlace place = code_place(is_v, token, d);
    return place.unit * kUnitCodes + place.byte;
}

}  // namespace kc
