#!/usr/bin/env bash
# The CUDA backend on a machine with a GPU: build, tests, compute-sanitizer, benchmarks. It needs nvcc, CMake and a driver,
# neither .NET nor a network. Every stage ends in under nine minutes; one that did not finish says so, and goes on where it
# was when it is called again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'STAGES'
usage: bench/gpu.sh [--to FOLDER] STAGE...      results go to FOLDER (default: artifacts/gpu)

carry      on a machine with .NET: publish the console into artifacts/gpu-carry, to be copied to the other machine
build      build the library, its tests and gpu_bench for the GPU present
tests      kernel and cache tests on the GPU; with artifacts/gpu-carry also the demonstration model, GPU against CPU
sanitizer  compute-sanitizer's memcheck, racecheck, initcheck and synccheck on the kernel tests
kernels    every kernel against the bandwidth of the device and of pinned memory, measured in the same run
sweep      decode steps by context, N and batch, each against full attention in the same device memory
pytorch    PyTorch's attention at the same shapes
all        build, tests, sanitizer, kernels, sweep, pytorch
STAGES
}

build=$PWD/artifacts/cmake/gpu
carried=$PWD/artifacts/gpu-carry
out=$PWD/artifacts/gpu
most_carried_mib=60
stage_seconds=530
unfinished=75

say() { printf '%s\n' "$*"; }
die() {
    printf 'gpu.sh: %s\n' "$*" >&2
    exit 1
}

need_gpu() {
    command -v nvidia-smi >/dev/null || die "stage $1 needs an NVIDIA GPU, but this machine has no nvidia-smi, so no driver"
    nvidia-smi -L 2>/dev/null | grep -q '^GPU' || die "stage $1 needs an NVIDIA GPU, but nvidia-smi shows none on this machine"
}
need_built() {
    [[ -x $build/bench/gpu/gpu_bench ]] || die "stage $1 needs what stage build builds; call: bench/gpu.sh build"
}

# The seconds that are left to a stage that began at $1.
seconds_left() { echo $((stage_seconds - (SECONDS - $1))); }

# --- build ----------------------------------------------------------------------------------------------------------

architecture() {
    local found=
    if command -v nvidia-smi >/dev/null; then
        found=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ') || found=
    fi
    [[ $found =~ ^[0-9]+$ ]] && echo "$found"
}

stage_build() {
    local arch generator=() compiler=()
    command -v cmake >/dev/null || die "stage build needs CMake 3.20 or newer"
    if ! command -v nvcc >/dev/null; then
        [[ -x /usr/local/cuda/bin/nvcc ]] || die "stage build needs nvcc (CUDA 11.8 or newer), which is neither in PATH nor in /usr/local/cuda/bin"
        export PATH=/usr/local/cuda/bin:$PATH
    fi
    if ! arch=$(architecture); then
        arch=90
        say "no GPU is here to build for: building for compute capability 9.0, which shows only that it compiles"
    fi
    if command -v ninja >/dev/null; then generator=(-G Ninja); fi
    # A compiler older than the one that the toolkit takes may be named: CUDAHOSTCXX=g++-11 bench/gpu.sh build
    if [[ ! -f $build/CMakeCache.txt ]]; then
        cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DKCACHE_CUDA=ON -DKCACHE_GPU_BENCH=ON \
            "-DCMAKE_CUDA_ARCHITECTURES=$arch" >"$out/build.log" 2>&1 || { tail -n 20 "$out/build.log"; return 1; }
    fi
    local rc=0
    timeout "$stage_seconds" cmake --build "$build" -j "$(getconf _NPROCESSORS_ONLN)" --target kcache gpu_bench gpu_ops_test gpu_select_test \
        cache_policy_test cache_random_test cache_home_test >>"$out/build.log" 2>&1 || rc=$?
    if ((rc == 124)); then return $unfinished; fi
    if ((rc != 0)); then tail -n 40 "$out/build.log"; fi
    return $rc
}

# --- tests ----------------------------------------------------------------------------------------------------------

# once FOLDER NAME COMMAND...: runs a command with what is left of the stage's time; one that passed is not run again.
once() {
    local folder=$1 name=$2 rc=0 left
    shift 2
    if [[ -f $folder/$name.passed ]]; then return; fi
    left=$(seconds_left "$stage_begin")
    if ((left < 10)); then return $unfinished; fi
    mkdir -p "$folder"
    printf '%s ... ' "$name"
    timeout "$left" "$@" </dev/null >"$folder/$name.log" 2>&1 || rc=$?
    case $rc in
    0)
        touch "$folder/$name.passed"
        say passed
        ;;
    124)
        say "stopped: it needs more than what was left of this stage's time"
        return $unfinished
        ;;
    *)
        say "failed; the end of ${folder#"$PWD"/}/$name.log:"
        tail -n 15 "$folder/$name.log"
        failed=$((failed + 1))
        ;;
    esac
}

# Counts what a folder of `once` holds into STAGE.json and STAGE.md.
report_once() {
    local stage=$1 folder=$2 log name result rows= json=
    for log in "$folder"/*.log; do
        [[ -e $log ]] || continue
        name=$(basename "$log" .log)
        result=failed
        if [[ -f $folder/$name.passed ]]; then result=passed; fi
        rows+="| $name | $result |"$'\n'
        json+="${json:+, }{\"name\": \"$name\", \"result\": \"$result\"}"
    done
    printf '[%s]\n' "$json" >"$out/$stage.json"
    printf '\n%s\n\n| run | result |\n| --- | --- |\n%s' "$stage" "$rows" >"$out/$stage.md"
}

# Greedy tokens of the demonstration model, GPU against CPU, by the console that was carried along.
same_tokens() {
    local prompt="The keeper of Ivory Manor is Patient Garrison. The flag of Patient Garrison is brown. A heron was seen at noon. Who keeps Ivory Manor? "
    local backend ids=()
    for backend in cpu cuda; do
        KCACHE_LIBRARY=$build/libkcache.so "$carried/kcache" run demo -p "$prompt$prompt" -n 64 --ignore-eos --temperature 0 --json \
            --backend "$backend" "$@" | tee /dev/stderr | sed -n 's/.*"ids":\(\[[0-9,]*\]\),"text.*/\1/p' >"$out/tests/ids-$backend"
        [[ -s $out/tests/ids-$backend ]]
    done
    cmp "$out/tests/ids-cpu" "$out/tests/ids-cuda"
}

stage_tests() {
    local test policy part
    need_gpu tests
    need_built tests
    failed=0
    export KCACHE_TEST_BACKEND=cuda
    for test in ops select; do once "$out/tests" "${test}_test" "$build/bench/gpu/gpu_${test}_test" || return; done
    for test in cache_policy cache_random cache_home; do once "$out/tests" "${test}_test" "$build/tests/native/${test}_test" || return; done
    if [[ -x $carried/kcache ]]; then
        once "$out/tests" devices env "KCACHE_LIBRARY=$build/libkcache.so" "$carried/kcache" devices --json || return
        while read -r policy; do
            read -ra part <<<"$policy"
            once "$out/tests" "demo-${policy//[^a-z0-9]/}" "$PWD/bench/gpu.sh" --to "$out" same-tokens "${part[@]}" || return
        done <<'POLICIES'
--policy full
--policy full --k-codec q8 --v-codec q8
--policy full --k-codec q4 --v-codec q4
--policy window --recent 48
--policy kcache --keep 8 --recent 8
--policy kcache --keep 8 --recent 8 --select union --v-codec q8
--policy sketch --keep 8 --recent 8
POLICIES
    else
        say "artifacts/gpu-carry is not here: the demonstration model is not run (bench/gpu.sh carry, on a machine with .NET)"
    fi
    report_once tests "$out/tests"
    ((failed == 0))
}

# --- sanitizer ------------------------------------------------------------------------------------------------------

stage_sanitizer() {
    local tool test program
    need_gpu sanitizer
    need_built sanitizer
    command -v compute-sanitizer >/dev/null || die "stage sanitizer needs compute-sanitizer, which comes with the CUDA toolkit and is not in PATH"
    failed=0
    export KCACHE_TEST_BACKEND=cuda KCACHE_TEST_SWEEP=small
    for tool in memcheck racecheck initcheck synccheck; do
        for test in bench/gpu/gpu_ops_test bench/gpu/gpu_select_test tests/native/cache_policy_test tests/native/cache_home_test; do
            program=$build/$test
            once "$out/sanitizer" "$tool-$(basename "$test")" compute-sanitizer --tool "$tool" --error-exitcode 1 --launch-timeout 60 "$program" || return
        done
    done
    report_once sanitizer "$out/sanitizer"
    ((failed == 0))
}

# --- benchmarks -----------------------------------------------------------------------------------------------------

run_bench() {
    need_gpu "$1"
    need_built "$1"
    timeout "$((stage_seconds + 30))" "$build/bench/gpu/gpu_bench" "$1" "$out" --seconds $((stage_seconds - 90))
}
stage_kernels() { run_bench kernels; }
stage_sweep() { run_bench sweep; }

stage_pytorch() {
    need_gpu pytorch
    command -v python3 >/dev/null && python3 -c 'import torch' 2>/dev/null || die "stage pytorch needs python3 with PyTorch, which is not installed here"
    timeout "$stage_seconds" python3 bench/gpu/attention.py "$out"
}

# --- on the machine with .NET ---------------------------------------------------------------------------------------

stage_carry() {
    command -v dotnet >/dev/null || [[ -x $HOME/.dotnet/dotnet ]] || die "stage carry needs the .NET SDK; the other stages do not"
    ./build.sh publish
    rm -rf "$carried"
    mkdir -p "$carried"
    # the native library is built over there
    find artifacts/publish -maxdepth 1 -type f -not -name 'libkcache.*' -not -name '*.dbg' -not -name '*.pdb' -not -name '*.xml' -exec cp {} "$carried/" \;
    local mib
    mib=$(du -sm "$carried" | cut -f 1)
    ((mib < most_carried_mib)) || die "artifacts/gpu-carry has $mib MiB, more than the $most_carried_mib that may be carried"
    say "artifacts/gpu-carry: $mib MiB; copy it into the same place on the other machine"
}

# --------------------------------------------------------------------------------------------------------------------

describe_machine() {
    {
        say "commit: $(git rev-parse --short HEAD 2>/dev/null || say unknown)"
        nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader 2>/dev/null || say "no GPU"
        nvcc --version 2>/dev/null | grep release || true
        sed -n 's/^model name[^:]*: /processor: /p' /proc/cpuinfo | head -n 1
    } >"$out/machine.md"
}

gather() {
    local part file
    for part in machine tests sanitizer kernels sweep pytorch; do
        for file in "$out/$part.md" "$out/$part"-*.md; do
            [[ ! -f $file ]] || cat "$file"
        done
    done >"$out/README.md"
}

if [[ ${1:-} == --to ]]; then
    [[ -n ${2:-} ]] || die "--to takes a folder"
    mkdir -p "$2"
    out=$(cd "$2" && pwd)
    shift 2
fi
if [[ $# -eq 0 ]]; then
    usage
    exit 2
fi
# what a stage runs under `timeout` cannot be a function of this shell
if [[ $1 == same-tokens ]]; then
    shift
    same_tokens "$@"
    exit
fi
mkdir -p "$out"
stages=("$@")
if [[ $1 == all ]]; then stages=(build tests sanitizer kernels sweep pytorch); fi
for stage in "${stages[@]}"; do
    declare -F "stage_$stage" >/dev/null || die "there is no stage '$stage'; bench/gpu.sh alone lists them"
done
for stage in "${stages[@]}"; do
    stage_begin=$SECONDS
    rc=0
    describe_machine
    "stage_$stage" || rc=$?
    gather
    case $rc in
    0) say "stage $stage: done ($((SECONDS - stage_begin)) s)" ;;
    "$unfinished")
        say "stage $stage: not finished in its time; call it again, it goes on where it was"
        exit $unfinished
        ;;
    *) die "stage $stage failed" ;;
    esac
done
