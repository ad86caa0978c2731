#!/usr/bin/env bash
# usage: isa_symbols.sh OBJECT...
# No object of cpu/isa defines a weak symbol. The linker keeps one copy of a weak function (an inline function or a template
# that several units share) for the whole library: were it the copy compiled for AVX-512, older machines would die in it.
set -euo pipefail

checked=0 leaks=0
for object in "$@"; do
    [[ $object == */cpu/isa/* ]] || continue
    checked=$((checked + 1))
    # W, V: defined weak; u: unique. DW.ref.* are pointers to a runtime function, data without instructions.
    if weak=$(nm -C "$object" | grep -E '^[0-9a-f]+ [WVu] ' | grep -v ' DW\.ref\.'); then
        echo "$object shares these with units of other instruction sets (make them static or put them into an unnamed namespace):"
        echo "$weak"
        leaks=$((leaks + 1))
    fi
done
if ((checked == 0)); then
    echo "no object of cpu/isa among the arguments"
    exit 1
fi
echo "$checked objects, $leaks with weak symbols"
((leaks == 0))
