#!/usr/bin/env bash
# How much context fits into the same memory: `full` against `sketch` with its exact rows in the spill file.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bench/memory-limit.sh MODEL.gguf TEXT.txt [CONTEXT]

Runs the console on the first tokens of the text, each time alone in a memory cgroup, and prints a table:
  1. full at CONTEXT tokens (default 4096), without a limit: what it needs is measured. The limit of all further
     runs is that and SLACK.
  2. full at CONTEXT tokens: runs to the end.
  3. full at 9/8 of CONTEXT: the kernel kills it.
  4. sketch at 3.5 times the context that killed full, so at more than 3.5 times what full can do at best.
Ends with failure if any of the four ends otherwise.

"Process" is what the kernel cannot take back: runtime, activations and cache. The mapped weights and the spill file are
page cache, which it takes back when the limit is near; they count against the limit but cannot break it (and do not
count at all where another process had read them before). "Cache resident" is what of the cache's mapping was in RAM at
most, from /proc/PID/smaps; "planned" is what `kcache plan` said.

environment: KCACHE   the console (default: artifacts/kcache/kcache)
             SLACK    bytes above what full needs, all that is left for page cache (default: 8388608)
             TOKENS   tokens to generate (default: 16)
             BATCH    tokens of a prompt that run at once (default: 64)
             SPILL    directory of the spill file (default: the system's temporary directory)
Needs a memory cgroup of version 1 that may be written (root), and no swap in use.
TEXT
}

die() {
    printf 'memory-limit.sh: %s\n' "$*" >&2
    exit 2
}

if [[ $# -lt 2 || $# -gt 3 ]]; then
    usage >&2
    exit 2
fi
model=$1 text=$2 context=${3:-4096}
kcache=${KCACHE:-$(dirname "${BASH_SOURCE[0]}")/../artifacts/kcache/kcache}
slack=${SLACK:-8388608} tokens=${TOKENS:-16} batch=${BATCH:-64}
[[ -x $kcache ]] || die "there is no console at $kcache; build it with ./build.sh managed, or name it with KCACHE=..."
[[ -f $model ]] || die "there is no model $model"
[[ -f $text ]] || die "there is no text $text"

root=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
[[ -w $root && -f $root/memory.limit_in_bytes ]] || die "no memory cgroup of version 1 that may be written ($root); see usage"

work=$(mktemp -d)
group=$root/kcache-memory-limit.$$
mkdir "$group"
cleanup() {
    rm -rf "$work"
    rmdir "$group"
}
trap cleanup EXIT

# The most that any look saw of the group's memory, page cache left out, and of the cache's mapping.
peak_process=0 peak_cache=0
watch() { # PID BYTES-OF-THE-CACHE
    local size=$((($2 + 4095) / 4096 * 4)) process resident
    peak_process=0 peak_cache=0
    while kill -0 "$1" 2>/dev/null; do
        process=$(awk 'NF == 1 { used = $1 } $1 == "cache" { used -= $2 } $1 == "shmem" { used += $2 } END { print used }' \
            "$group/memory.usage_in_bytes" "$group/memory.stat")
        resident=$(awk -v size="$size" '$1 == "Size:" { fits = $2 == size } $1 == "Rss:" && fits { print $2 * 1024 }' \
            "/proc/$1/smaps" 2>/dev/null | sort -n | tail -n 1) || true
        if ((process > peak_process)); then peak_process=$process; fi
        if ((${resident:-0} > peak_cache)); then peak_cache=$resident; fi
        sleep 0.2
    done
}

field() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" | head -n 1; } # of JSON on standard input

mebibytes() { awk -v n="$1" 'BEGIN { printf "%.1f", n / 1048576 }'; }

# run LIMIT POLICY CONTEXT WANTED: a row of the table; LIMIT -1 is none, WANTED is "ran" or "killed".
failures=0
run() {
    local limit=$1 policy=$2 context=$3 wanted=$4 plan planned pid rc=0 kills outcome budget=()
    plan=$("$kcache" plan "$model" --policy "$policy" --context "$context" --batch-tokens "$batch" --json)
    planned=$(field fast_bytes <<<"$plan")
    if [[ $policy == sketch ]]; then
        planned=$(field fast_minimum_bytes <<<"$plan")
        budget=(--fast-budget "$planned")
        if [[ -n ${SPILL:-} ]]; then budget+=(--spill-dir "$SPILL"); fi
    fi
    cut -d, -f"1-$((context - tokens))" "$work/ids" | sed 's/^/[/; s/$/]/' >"$work/prompt.json"
    echo "$limit" >"$group/memory.limit_in_bytes"
    kills=$(awk '$1 == "oom_kill" { print $2 }' "$group/memory.oom_control")
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        exec "$kcache" run "$model" --ids "$work/prompt.json" -n "$tokens" --context "$context" --policy "$policy" \
            --batch-tokens "$batch" "${budget[@]}" --json
    ) >"$work/out.json" 2>"$work/err" &
    pid=$!
    { watch "$pid" "$planned" && wait "$pid" || rc=$?; } 2>/dev/null # the shell would report the kill
    kills=$(($(awk '$1 == "oom_kill" { print $2 }' "$group/memory.oom_control") - kills))
    if ((rc == 0)); then
        outcome=ran
    elif ((kills > 0)); then
        outcome=killed
    else
        outcome="failed: $(tail -n 1 "$work/err")"
    fi
    if [[ $outcome != "$wanted" ]]; then failures=$((failures + 1)); fi
    echo -1 >"$group/memory.limit_in_bytes"
    printf '| %s | %d | %s | %s | %s | %s | %s | %s | %s |\n' "$policy" "$context" \
        "$([[ $limit == -1 ]] && echo none || mebibytes "$limit")" "$outcome" "$(mebibytes "$peak_process")" \
        "$(mebibytes "$planned")" "$(mebibytes "$peak_cache")" \
        "$([[ $outcome == ran ]] && mebibytes "$(field slow_bytes <"$work/out.json")" || echo -)" \
        "$([[ $outcome == ran ]] && field decode_tokens_per_second <"$work/out.json" || echo -)"
}

"$kcache" tokenize "$model" -f "$text" --json | sed 's/.*"ids": *\[\([^]]*\)\].*/\1/' >"$work/ids"
more=$((context * 9 / 8)) most=$((context * 9 / 8 * 7 / 2))
(($(tr -cd , <"$work/ids" | wc -c) >= most)) || die "the text has fewer than the $most tokens that the last run reads"

printf '%s, %s; MiB\n\n' "$(basename "$model")" "$(basename "$text")"
printf '| policy | context | limit | outcome | process, peak | cache planned | cache resident | spill file | tokens/s |\n'
printf '| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n'
run -1 full "$context" ran
limit=$(((peak_process + slack) / 4096 * 4096))
run "$limit" full "$context" ran
run "$limit" full "$more" killed
run "$limit" sketch "$most" ran
printf '\nsketch: %s times the context that full runs, %s times the one that kills it\n' \
    "$(awk -v a="$most" -v b="$context" 'BEGIN { printf "%.2f", a / b }')" \
    "$(awk -v a="$most" -v b="$more" 'BEGIN { printf "%.2f", a / b }')"
((failures == 0)) || die "$failures of the runs did not end as they should"
