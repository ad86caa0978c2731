#!/usr/bin/env bash
# usage: exported_symbols.sh LIBRARY EXPORTS HEADER...
# The library exports exactly what the list says, and the list is exactly what the headers declare.
set -euo pipefail
export LC_ALL=C

library=$1 list=$2
shift 2

exported=$(nm -D --defined-only "$library" | awk '{ print $3 }' | sort)
listed=$(sort "$list")
declared=$(cat "$@" | grep -oE '^KC_API [^(]*\(' | sed -E 's/.*[ *](kc_[a-z0-9_]+)\($/\1/' | sort)
[[ -n $listed && -n $declared ]] || {
    echo "no names found in $list or in $*"
    exit 1
}

compare() {
    diff <(printf '%s\n' "$3") <(printf '%s\n' "$4") >/dev/null && return
    echo "$1 and $2 differ (< only in the first, > only in the second):"
    diff <(printf '%s\n' "$3") <(printf '%s\n' "$4") | grep '^[<>]'
    return 1
}
status=0
compare "$library" "$list" "$exported" "$listed" || status=1
compare "the headers" "$list" "$declared" "$listed" || status=1
exit $status
