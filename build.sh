#!/usr/bin/env bash
# Builds, tests and packs everything; without arguments it lists what it can do. build.ps1 is its twin.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The verbs of both scripts, in the same order and words; a test compares the two lists.
usage() {
    cat <<'VERBS'
native     build the shared library into artifacts/native
managed    build the C# library, the console (into artifacts/kcache), the tests and the benchmarks
run        set up what is missing, build, and run the main job (or: run ARGUMENTS OF kcache)
test       build and run every test
bench      run the benchmarks (arguments go to BenchmarkDotNet; or: bench decode --help)
simt       run the CUDA backend and its tests on the machine made of software (Linux on x86-64)
sanitize   run the native tests under ASan, UBSan and TSan, then a minute of fuzzing
format     format all sources (format --check: only look)
pack       make the NuGet package and the archive for C into artifacts/pack
publish    compile the console ahead of time into artifacts/publish
clean      remove artifacts
VERBS
}

artifacts=$PWD/artifacts
logs=$artifacts/logs
console=$artifacts/kcache/kcache
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1
export MSBUILDDISABLENODEREUSE=1               # a build that ends leaves no process behind
export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1 # the SDK runs without ICU, which bare machines lack
if ! command -v dotnet >/dev/null && [[ -x $HOME/.dotnet/dotnet ]]; then # where dotnet-install.sh puts it
    export PATH=$HOME/.dotnet:$PATH DOTNET_ROOT=$HOME/.dotnet
fi
jobs=$(getconf _NPROCESSORS_ONLN)

say() { printf '%s\n' "$*"; }
die() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

# step LOG TITLE COMMAND...: one line while it works; the end of its log when it fails.
step() {
    local log=$logs/$1.log title=$2 start=$SECONDS
    shift 2
    mkdir -p "$logs"
    printf '%s ... ' "$title"
    if "$@" >"$log" 2>&1; then
        say "done ($((SECONDS - start)) s)"
    else
        say "failed; the end of ${log#"$PWD"/}:"
        tail -n 40 "$log"
        return 1
    fi
}

# --- what the machine must have -----------------------------------------------------------------------------------

as_root=()
can_install() {
    command -v apt-get >/dev/null || return 1
    [[ $(id -u) -eq 0 ]] && return 0
    sudo -n true 2>/dev/null && as_root=(sudo -n)
}

apt_lists_fresh=
apt_knows() {
    if [[ -z $apt_lists_fresh ]]; then
        step apt-update "reading the package lists of apt" "${as_root[@]}" apt-get update || true
        apt_lists_fresh=1
    fi
    [[ -n $(apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([^(].*\)/\1/p') ]]
}

# install WHY PACKAGE...: through apt where it may, else names the command and stops.
install() {
    local why=$1 package
    shift
    can_install || die "$why is missing. Install it, on Debian or Ubuntu with: sudo apt-get install $*"
    for package in "$@"; do
        apt_knows "$package" || die "$why is missing and apt does not know the package $package; install it by hand"
    done
    say "$why is missing: installing $* from this machine's apt sources"
    step apt-install "apt-get install $*" \
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

compiles_cxx20() {
    local cxx=${CXX:-c++}
    command -v "$cxx" >/dev/null || return 1
    printf '#include <span>\nint main() { return std::span<int>().size_bytes() != 0; }\n' |
        "$cxx" -std=c++20 -x c++ -fsyntax-only - 2>/dev/null
}

cmake_suits() {
    local version
    version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
    [[ -n $version && $(printf '3.20\n%s\n' "$version" | sort -V | head -n 1) == 3.20 ]]
}

dotnet_suits() {
    local sdks
    sdks=$(dotnet --list-sdks 2>/dev/null) && grep -q '^10\.' <<<"$sdks"
}

need_native_tools() {
    compiles_cxx20 || install "a C++20 compiler" g++
    compiles_cxx20 || die "${CXX:-c++} does not compile C++20; install g++ 11 or newer, or name a compiler with CXX=..."
    cmake_suits || install "CMake 3.20" cmake
    cmake_suits || die "CMake 3.20 or newer is needed, this is: $(cmake --version | head -n 1)"
    command -v ninja >/dev/null || command -v make >/dev/null || install "ninja" ninja-build
}

# apt where it knows the SDK (Ubuntu, or a machine with Microsoft's source); a foreign source or script is never added
# behind the user's back.
need_dotnet() {
    dotnet_suits && return
    if can_install && apt_knows dotnet-sdk-10.0; then
        install "the .NET 10 SDK" dotnet-sdk-10.0
        return
    fi
    local id version sudo=
    id=$(sed -n 's/^ID=//p' /etc/os-release 2>/dev/null | tr -d '"')
    version=$(sed -n 's/^VERSION_ID=//p' /etc/os-release 2>/dev/null | tr -d '"')
    if [[ $(id -u) -ne 0 ]]; then sudo='sudo '; fi
    say "The .NET 10 SDK is missing and apt does not know it. Install it, then call this again. Either for the machine:"
    case $id in
    debian | ubuntu)
        say "  ${sudo}apt-get install -y curl ca-certificates"
        say "  curl -LO https://packages.microsoft.com/config/$id/$version/packages-microsoft-prod.deb"
        say "  ${sudo}dpkg -i packages-microsoft-prod.deb && ${sudo}apt-get update && ${sudo}apt-get install -y dotnet-sdk-10.0"
        ;;
    *) say "  as https://learn.microsoft.com/dotnet/core/install/linux says" ;;
    esac
    say "or for yourself, into ~/.dotnet:"
    say "  curl -L https://dot.net/v1/dotnet-install.sh | bash -s -- --channel 10.0"
    exit 1
}

# All that a build needs, before minutes are spent on half of it. A console that exists shows that .NET is there.
set_up() {
    need_native_tools
    [[ -e $console ]] || need_dotnet
}

# --- building -----------------------------------------------------------------------------------------------------

# configure_and_build FOLDER TARGET OPTION...: a CMake build in artifacts/cmake/FOLDER.
configure_and_build() {
    local build=$artifacts/cmake/$1 target=$2 generator="Unix Makefiles"
    shift 2
    if command -v ninja >/dev/null; then generator=Ninja; fi
    if [[ ! -f $build/build.ninja && ! -f $build/Makefile ]]; then
        cmake -S . -B "$build" -G "$generator" "$@" || return
    fi
    cmake --build "$build" --target "$target" -j "$jobs"
}

native_library() {
    case $(uname -s) in
    Darwin) say libkcache.dylib ;;
    *) say libkcache.so ;;
    esac
}

verb_native() {
    need_native_tools
    step native "native: building (Release)" configure_and_build release kcache -DCMAKE_BUILD_TYPE=Release
    local built kept
    built=$artifacts/cmake/release/$(native_library)
    kept=$artifacts/native/$(native_library)
    mkdir -p "$artifacts/native"
    cmp -s "$built" "$kept" || cp "$built" "$kept" # an unchanged library keeps its time: nothing after it is rebuilt
}

# A fingerprint of everything that the managed build reads: equal fingerprint, nothing to do.
managed_inputs() {
    find src bench tests/KCacheNative.Tests Directory.*.props Directory.*.targets KCacheNative.sln artifacts/native \
        -type f -not -path 'src/native/*' -not -path 'bench/results/*' -print0 |
        sort -z | xargs -0 cksum | cksum
}

# unless_current STAMP FILE COMMAND...: runs the command when the inputs changed since it last succeeded or FILE is gone.
unless_current() {
    local stamp=$artifacts/stamps/$1 file=$2 inputs
    shift 2
    inputs=$(managed_inputs)
    if [[ -e $file && -f $stamp && $(<"$stamp") == "$inputs" ]]; then return; fi
    rm -f "$stamp"
    "$@"
    mkdir -p "$artifacts/stamps"
    printf '%s\n' "$inputs" >"$stamp"
}

build_console() {
    need_dotnet
    step console "console: building (Release)" \
        dotnet publish src/KCacheNative.Console -c Release -p:UseAppHost=true -o "$artifacts/kcache"
}
build_solution() {
    need_dotnet
    step managed "managed: building (Release)" dotnet build KCacheNative.sln -c Release
}

verb_managed() {
    set_up
    verb_native
    unless_current solution "$artifacts/dotnet" build_solution
    unless_current console "$console" build_console
}

verb_run() {
    set_up
    verb_native
    unless_current console "$console" build_console
    if [[ $# -eq 0 ]]; then set -- compare; fi
    "$console" "$@"
}

# --- testing ------------------------------------------------------------------------------------------------------

passed=0 failed=0 skipped=0
ctest_prefix=() # a command that the native tests run under

count() {
    passed=$((passed + $1))
    failed=$((failed + $2))
    skipped=$((skipped + $3))
}

# run_ctest LOG TITLE FOLDER ARGUMENT...: runs and counts a build's native tests.
run_ctest() {
    local log=$logs/$1.log title=$2 build=$artifacts/cmake/$3 total good skip
    shift 3
    step "$(basename "$log" .log)" "$title" "${ctest_prefix[@]}" ctest --test-dir "$build" --output-on-failure --timeout 900 "$@" || true
    total=$(sed -n 's/.* tests failed out of \([0-9]*\)$/\1/p' "$log")
    good=$(grep -cE '^ *[0-9]+/[0-9]+ Test .* Passed ' "$log") || true
    skip=$(grep -cE '^ *[0-9]+/[0-9]+ Test .*\*\*\*Skipped' "$log") || true
    if [[ -z $total ]]; then
        count 0 1 0 # ctest ended before its summary
    else
        count "$good" $((total - good - skip)) "$skip"
    fi
}

# run_dotnet_test LOG TITLE ARGUMENT...: runs and counts the NUnit tests of the built solution.
run_dotnet_test() {
    local log=$1 title=$2 rc=0 results=$artifacts/test-results total executed good
    local counters='<Counters total="([0-9]+)" executed="([0-9]+)" passed="([0-9]+)"'
    shift 2
    rm -f "$results/$log.trx"
    step "$log" "$title" dotnet test tests/KCacheNative.Tests -c Release --no-build \
        --logger "trx;LogFileName=$log.trx" --results-directory "$results" "$@" || rc=1
    if [[ ! -f $results/$log.trx || ! $(<"$results/$log.trx") =~ $counters ]]; then
        count 0 1 0
        return
    fi
    total=${BASH_REMATCH[1]} executed=${BASH_REMATCH[2]} good=${BASH_REMATCH[3]}
    count "$good" $((executed - good)) $((total - executed))
    # no test at all is a failure, and so is a test host that died and left counters without one
    if ((total == 0 || (rc != 0 && executed == good))); then count 0 1 0; fi
}

# summary: the counts as the last line; success only if something ran and nothing failed.
summary() {
    say "$passed passed, $failed failed, $skipped skipped"
    ((failed == 0 && passed > 0))
}

verb_test() {
    verb_managed
    step native-tests "test: building the native tests" configure_and_build release all -DCMAKE_BUILD_TYPE=Release
    run_ctest ctest "test: native" release
    if has_simt; then test_simt; fi # before the managed tests, some of which use the library that it builds
    run_dotnet_test nunit "test: managed"
    summary
}

verb_bench() {
    verb_native
    unless_current solution "$artifacts/dotnet" build_solution
    dotnet run --project bench/KCacheNative.Benchmarks -c Release --no-build -- "$@"
}

has_simt() { [[ $(uname -sm) == "Linux x86_64" ]]; }

test_simt() {
    step simt-build "simt: building the CUDA backend for the machine made of software" configure_and_build simt simt \
        -DCMAKE_BUILD_TYPE=Release -DKCACHE_CUDA=OFF -DKCACHE_SIMT=ON
    run_ctest simt "test: the machine made of software, and the CUDA backend on it" simt -R '^simt_' -j "$jobs"
}

verb_simt() {
    has_simt || die "the machine made of software runs on Linux and x86-64 only"
    need_native_tools
    test_simt
    summary
}

verb_sanitize() {
    need_native_tools
    local kind build seconds=60 no_random=()
    # TSan's shadow memory wants the classic layout, which newer kernels randomise away.
    if setarch -R true 2>/dev/null; then no_random=(setarch -R); fi
    for kind in address,undefined thread; do
        build=${kind/,/-}
        step "sanitize-$build-build" "sanitize: building with -fsanitize=$kind" configure_and_build "$build" all \
            -DCMAKE_BUILD_TYPE=RelWithDebInfo -DKCACHE_SANITIZE="$kind"
    done
    export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=second_deadlock_stack=1
    run_ctest sanitize-address-undefined "sanitize: tests under ASan and UBSan" address-undefined
    ctest_prefix=("${no_random[@]}")
    run_ctest sanitize-thread "sanitize: tests under TSan" thread
    if step fuzz "sanitize: $seconds s of fuzzing over the C ABI" "$artifacts/cmake/address-undefined/tests/native/fuzz_api" $seconds; then
        count 1 0 0
    else
        count 0 1 0
    fi
    summary
}

# --- formatting ---------------------------------------------------------------------------------------------------

# clang-format's output changes between its major versions, so the repository names one.
clang_format() {
    local tool
    for tool in clang-format-14 clang-format; do
        if "$tool" --version 2>/dev/null | grep -q 'version 14\.'; then
            say "$tool"
            return
        fi
    done
}

verb_format() {
    local check=() verify=() tool
    case ${1:-} in
    "") ;;
    --check)
        check=(--dry-run --Werror)
        verify=(--verify-no-changes)
        ;;
    *) die "format takes --check or nothing, not $1" ;;
    esac
    need_dotnet
    tool=$(clang_format)
    if [[ -z $tool ]]; then
        install "clang-format 14" clang-format-14
        tool=$(clang_format)
    fi
    step format-native "format: C and C++" format_native "$tool" "${check[@]}"
    step restore "format: restoring packages" dotnet restore KCacheNative.sln
    step format-managed "format: C#" dotnet format KCacheNative.sln --no-restore "${verify[@]}"
}

format_native() {
    local tool=$1
    shift
    find include src/native cuda tests/native tests/simt bench/gpu \
        \( -name '*.h' -o -name '*.c' -o -name '*.cpp' -o -name '*.cu' -o -name '*.inl' \) -print0 |
        xargs -0 "$tool" --style=file -i "$@"
}

# --- packing ------------------------------------------------------------------------------------------------------

# The runtime identifier of this machine, as .NET writes it.
rid() {
    local os=linux machine=x64
    if [[ $(uname -s) == Darwin ]]; then os=osx; fi
    case $(uname -m) in arm64 | aarch64) machine=arm64 ;; esac
    say "$os-$machine"
}

verb_pack() {
    verb_native
    need_dotnet
    local version name stage
    version=$(sed -n 's/^project(kcache VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
    name=kcache-$version-$(rid)
    stage=$artifacts/pack/$name
    rm -rf "$artifacts/pack"
    mkdir -p "$artifacts/pack"
    step pack-native "pack: the archive for C" cmake --install "$artifacts/cmake/release" --prefix "$stage"
    tar -C "$artifacts/pack" -czf "$artifacts/pack/$name.tar.gz" "$name"
    rm -rf "$stage"
    step pack-managed "pack: the NuGet package" dotnet pack src/KCacheNative -c Release -o "$artifacts/pack"
    ls -1 "$artifacts/pack"
}

verb_publish() {
    verb_native
    need_dotnet
    command -v clang >/dev/null || command -v gcc >/dev/null || install "a C compiler to link with" gcc
    if [[ $(uname -s) == Linux ]]; then
        printf '#include <zlib.h>\n' | "${CC:-cc}" -E - >/dev/null 2>&1 || install "zlib (ahead-of-time compilation links it)" zlib1g-dev
    fi
    rm -rf "$artifacts/publish"
    step publish "publish: compiling the console ahead of time" \
        dotnet publish src/KCacheNative.Console -c Release -r "$(rid)" -p:PublishAot=true -o "$artifacts/publish"
    say "$artifacts/publish/kcache"
}

verb_clean() { rm -rf "$artifacts"; }

verb=${1:-}
if [[ -z $verb ]]; then
    say "usage: ./build.sh VERB"
    usage
    exit
fi
usage | grep -q "^$verb " || die "no verb '$verb'; ./build.sh alone lists them"
shift
"verb_$verb" "$@"
