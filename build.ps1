#!/usr/bin/env pwsh
# Builds, tests and packs everything; without arguments it lists what it can do. The twin of build.sh, for Windows (Visual Studio
# or clang) and for PowerShell elsewhere.
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version Latest
Set-Location $PSScriptRoot

# The verbs of both scripts, in the same order and words; a test compares the two lists.
$Verbs = @'
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
'@

$OnWindows = $env:OS -eq 'Windows_NT'
$OnMac = -not $OnWindows -and (uname -s) -eq 'Darwin'
$Artifacts = Join-Path $PSScriptRoot 'artifacts'
$Logs = Join-Path $Artifacts 'logs'
$env:DOTNET_NOLOGO = '1'
$env:DOTNET_CLI_TELEMETRY_OPTOUT = '1'
$env:MSBUILDDISABLENODEREUSE = '1' # a build that ends leaves no process behind

# Invoke-Step LOG TITLE COMMAND ARGUMENTS: one line while it works; the end of its log when it fails. True if it succeeded.
function Invoke-Step([string] $Log, [string] $Title, [string] $Command, [string[]] $Arguments) {
    New-Item -ItemType Directory -Force $Logs | Out-Null
    $file = Join-Path $Logs "$Log.log"
    $watch = [Diagnostics.Stopwatch]::StartNew()
    Write-Host -NoNewline "$Title ... "
    $ErrorActionPreference = 'Continue' # lines on stderr are no errors
    & $Command @Arguments *> $file
    if ($LASTEXITCODE -eq 0) {
        Write-Host "done ($([int] $watch.Elapsed.TotalSeconds) s)"
        return $true
    }
    Write-Host "failed; the end of artifacts/logs/$Log.log:"
    Get-Content $file -Tail 40 | Write-Host
    return $false
}

# The same, and the end of the script where it fails.
function Step {
    if (-not (Invoke-Step @args)) { exit 1 }
}

function Stop-With([string] $Message) {
    [Console]::Error.WriteLine("build.ps1: $Message")
    exit 1
}

# --- what the machine must have: this script names the command that installs it, build.sh also runs it where apt may ---

function Find-Command([string] $Name) { [bool] (Get-Command $Name -CommandType Application -ErrorAction SilentlyContinue) }

function Confirm-NativeTools {
    if (-not (Find-Command 'cmake')) {
        Stop-With 'CMake 3.20 is missing. Install it, on Windows with: winget install Kitware.CMake; elsewhere ./build.sh native does'
    }
}

function Confirm-Dotnet {
    $sdks = if (Find-Command 'dotnet') { dotnet --list-sdks } else { @() }
    if (-not ($sdks -match '^10\.')) {
        Stop-With ('The .NET 10 SDK is missing. Install it, on Windows with: winget install Microsoft.DotNet.SDK.10; ' +
            'elsewhere ./build.sh run does or says how')
    }
}

# --- building -------------------------------------------------------------------------------------------------------

# Visual Studio's own build files call it so.
$AllTargets = if ($OnWindows -and -not (Find-Command 'ninja')) { 'ALL_BUILD' } else { 'all' }

function Build-Native([string] $Folder, [string] $Title, [string] $Configuration, [string] $Target, [string[]] $Options) {
    Confirm-NativeTools
    $build = Join-Path $Artifacts "cmake/$Folder"
    # Visual Studio finds its own compiler; ninja needs one on the path, as a developer prompt or another system has it.
    $compiler = (Find-Command 'cl') -or (Find-Command 'c++') -or $env:CXX
    $generator = if ($compiler -and (Find-Command 'ninja')) { @('-G', 'Ninja') } else { @() }
    if (-not (Test-Path (Join-Path $build 'CMakeCache.txt'))) {
        Step "$Folder-configure" "$Title (configuring)" 'cmake' (@('-S', '.', '-B', $build, "-DCMAKE_BUILD_TYPE=$Configuration") + $generator + $Options)
    }
    Step $Folder $Title 'cmake' @('--build', $build, '--config', $Configuration, '--target', $Target, '--parallel')
}

function Get-LibraryName {
    if ($OnWindows) { 'kcache.dll' } elseif ($OnMac) { 'libkcache.dylib' } else { 'libkcache.so' }
}

function Invoke-Native {
    Build-Native 'release' 'native: building (Release)' 'Release' 'kcache' @()
    $name = Get-LibraryName
    $built = Get-ChildItem (Join-Path $Artifacts 'cmake/release') -Recurse -Filter $name | Select-Object -First 1
    $kept = Join-Path $Artifacts "native/$name"
    New-Item -ItemType Directory -Force (Split-Path $kept) | Out-Null
    # an unchanged library keeps its time: nothing after it is rebuilt
    if (-not (Test-Path $kept) -or (Get-FileHash $built.FullName).Hash -ne (Get-FileHash $kept).Hash) {
        Copy-Item $built.FullName $kept -Force
    }
}

# A fingerprint of everything that the managed build reads: equal fingerprint, nothing to do.
function Get-Fingerprint {
    $roots = 'src', 'bench', 'tests/KCacheNative.Tests', 'artifacts/native', 'Directory.Build.props', 'Directory.Build.targets',
        'Directory.Packages.props', 'KCacheNative.sln'
    $lines = Get-ChildItem $roots -Recurse -File |
        Where-Object { $_.FullName -notmatch '[\\/](src[\\/]native|bench[\\/]results)[\\/]' } |
        Sort-Object FullName | ForEach-Object { "$($_.FullName) $((Get-FileHash $_.FullName).Hash)" }
    $bytes = [Text.Encoding]::UTF8.GetBytes($lines -join "`n")
    [BitConverter]::ToString([Security.Cryptography.SHA256]::Create().ComputeHash($bytes))
}

# Runs the action when the inputs changed since it last succeeded, or File is gone.
function Invoke-UnlessCurrent([string] $Stamp, [string] $File, [scriptblock] $Action) {
    $path = Join-Path $Artifacts "stamps/$Stamp.ps1"
    $inputs = Get-Fingerprint
    if ((Test-Path $File) -and (Test-Path $path) -and (Get-Content -Raw $path) -eq $inputs) { return }
    Remove-Item $path -ErrorAction SilentlyContinue
    & $Action
    New-Item -ItemType Directory -Force (Split-Path $path) | Out-Null
    [IO.File]::WriteAllText($path, $inputs)
}

$Console = Join-Path $Artifacts $(if ($OnWindows) { 'kcache/kcache.exe' } else { 'kcache/kcache' })

function Build-Console {
    Invoke-UnlessCurrent 'console' $Console {
        Confirm-Dotnet
        Step 'console' 'console: building (Release)' 'dotnet' @('publish', 'src/KCacheNative.Console', '-c', 'Release',
            '-p:UseAppHost=true', '-o', (Join-Path $Artifacts 'kcache'))
    }
}

function Build-Solution {
    Invoke-UnlessCurrent 'solution' (Join-Path $Artifacts 'dotnet') {
        Confirm-Dotnet
        Step 'managed' 'managed: building (Release)' 'dotnet' @('build', 'KCacheNative.sln', '-c', 'Release')
    }
}

function Invoke-Managed {
    Invoke-Native
    Build-Solution
    Build-Console
}

function Invoke-Run {
    Invoke-Native
    Build-Console
    [string[]] $arguments = if ($args.Count) { $args } else { 'compare' } # typed: a lone word would be taken for its letters
    & $Console @arguments
    exit $LASTEXITCODE
}

# --- testing --------------------------------------------------------------------------------------------------------

$Count = @{ Passed = 0; Failed = 0; Skipped = 0 }

function Add-Count([int] $Passed, [int] $Failed, [int] $Skipped) {
    $Count.Passed += $Passed
    $Count.Failed += $Failed
    $Count.Skipped += $Skipped
}

function Test-Native([string] $Log, [string] $Title, [string] $Folder, [string] $Configuration) {
    $null = Invoke-Step $Log $Title 'ctest' @('--test-dir', (Join-Path $Artifacts "cmake/$Folder"), '-C', $Configuration,
        '--output-on-failure', '--timeout', '900')
    $text = Get-Content -Raw (Join-Path $Logs "$Log.log")
    if ($text -match 'tests failed out of (\d+)') {
        $total = [int] $Matches[1]
        $good = [regex]::Matches($text, '(?m)^ *\d+/\d+ Test .* Passed ').Count
        $skip = [regex]::Matches($text, '(?m)^ *\d+/\d+ Test .*\*\*\*Skipped').Count
        Add-Count $good ($total - $good - $skip) $skip
    }
    else { Add-Count 0 1 0 } # ctest ended before its summary
}

function Test-Managed([string] $Log, [string] $Title) {
    $results = Join-Path $Artifacts 'test-results'
    $trx = Join-Path $results "$Log.trx"
    Remove-Item $trx -ErrorAction SilentlyContinue
    $fine = Invoke-Step $Log $Title 'dotnet' @('test', 'tests/KCacheNative.Tests', '-c', 'Release', '--no-build',
        '--logger', "trx;LogFileName=$Log.trx", '--results-directory', $results)
    if ((Test-Path $trx) -and (Get-Content -Raw $trx) -match '<Counters total="(\d+)" executed="(\d+)" passed="(\d+)"') {
        $total, $executed, $good = [int] $Matches[1], [int] $Matches[2], [int] $Matches[3]
        Add-Count $good ($executed - $good) ($total - $executed)
        # no test at all is a failure, and so is a test host that died and left counters without one
        if ($total -eq 0 -or (-not $fine -and $executed -eq $good)) { Add-Count 0 1 0 }
    }
    else { Add-Count 0 1 0 }
}

# The counts as the last line; success only if something ran and nothing failed.
function Exit-WithSummary {
    Write-Host "$($Count.Passed) passed, $($Count.Failed) failed, $($Count.Skipped) skipped"
    exit $(if ($Count.Failed -eq 0 -and $Count.Passed -gt 0) { 0 } else { 1 })
}

function Invoke-Test {
    Invoke-Managed
    Build-Native 'release' 'test: building the native tests' 'Release' $AllTargets @()
    Test-Native 'ctest' 'test: native' 'release' 'Release'
    Test-Managed 'nunit' 'test: managed'
    Exit-WithSummary
}

function Invoke-Bench {
    Invoke-Native
    Build-Solution
    dotnet run --project bench/KCacheNative.Benchmarks -c Release --no-build -- @args
    exit $LASTEXITCODE
}

function Invoke-Simt {
    if ($OnWindows) { Stop-With 'the machine made of software runs on Linux: call ./build.sh simt in WSL' }
    Build-Native 'simt' 'simt: building the CUDA backend for the machine made of software' 'Release' @('-DKCACHE_CUDA=OFF', '-DKCACHE_SIMT=ON')
    Test-Native 'simt' 'test: the machine, and the CUDA backend on it' 'simt' 'Release'
    Exit-WithSummary
}

function Invoke-Sanitize {
    if ($OnWindows) { Stop-With 'the sanitizers need GCC or Clang on Linux: call ./build.sh sanitize in WSL' }
    foreach ($kind in 'address,undefined', 'thread') {
        $folder = $kind -replace ',', '-'
        Build-Native $folder "sanitize: building with -fsanitize=$kind" 'RelWithDebInfo' $AllTargets @("-DKCACHE_SANITIZE=$kind")
    }
    $env:ASAN_OPTIONS = 'detect_stack_use_after_return=1'
    $env:UBSAN_OPTIONS = 'print_stacktrace=1'
    $env:TSAN_OPTIONS = 'second_deadlock_stack=1'
    Test-Native 'sanitize-address-undefined' 'sanitize: tests under ASan and UBSan' 'address-undefined' 'RelWithDebInfo'
    Test-Native 'sanitize-thread' 'sanitize: tests under TSan' 'thread' 'RelWithDebInfo'
    $fuzz = Join-Path $Artifacts 'cmake/address-undefined/tests/native/fuzz_api'
    if (Invoke-Step 'fuzz' 'sanitize: 60 s of fuzzing over the C ABI' $fuzz @('60')) { Add-Count 1 0 0 } else { Add-Count 0 1 0 }
    Exit-WithSummary
}

# --- formatting and packing -----------------------------------------------------------------------------------------

function Invoke-Format {
    $check = $args.Count -eq 1 -and $args[0] -eq '--check'
    if ($args.Count -and -not $check) { Stop-With "format takes --check or nothing, not $args" }
    # clang-format's output changes between its major versions, so the repository names one
    $tool = 'clang-format-14', 'clang-format' | Where-Object { (Find-Command $_) -and ((& $_ --version) -match 'version 14\.') } | Select-Object -First 1
    if (-not $tool) { Stop-With 'clang-format 14 is missing. Install it with: pip install clang-format==14.0.6' }
    Confirm-Dotnet
    $files = Get-ChildItem include, src/native, cuda, tests/native, tests/simt, bench/gpu -Recurse -File |
        Where-Object Extension -In '.h', '.c', '.cpp', '.cu', '.inl' | ForEach-Object FullName
    $look = if ($check) { @('--dry-run', '--Werror') } else { @() }
    Step 'format-native' 'format: C and C++' $tool (@('--style=file', '-i') + $look + $files)
    Step 'restore' 'format: restoring packages' 'dotnet' @('restore', 'KCacheNative.sln')
    $look = if ($check) { @('--verify-no-changes') } else { @() }
    Step 'format-managed' 'format: C#' 'dotnet' (@('format', 'KCacheNative.sln', '--no-restore') + $look)
}

# The runtime identifier of this machine, as .NET writes it.
function Get-Rid {
    $os = if ($OnWindows) { 'win' } elseif ($OnMac) { 'osx' } else { 'linux' }
    "$os-$([Runtime.InteropServices.RuntimeInformation]::OSArchitecture.ToString().ToLowerInvariant())"
}

function Invoke-Pack {
    Invoke-Native
    Confirm-Dotnet
    $version = [regex]::Match((Get-Content -Raw CMakeLists.txt), 'project\(kcache VERSION ([0-9.]+)').Groups[1].Value
    $name = "kcache-$version-$(Get-Rid)"
    $pack = Join-Path $Artifacts 'pack'
    Remove-Item $pack -Recurse -Force -ErrorAction SilentlyContinue
    New-Item -ItemType Directory -Force $pack | Out-Null
    Step 'pack-native' 'pack: the archive for C' 'cmake' @('--install', (Join-Path $Artifacts 'cmake/release'), '--config', 'Release',
        '--prefix', (Join-Path $pack $name))
    tar -C $pack -czf (Join-Path $pack "$name.tar.gz") $name
    if ($LASTEXITCODE) { exit 1 }
    Remove-Item (Join-Path $pack $name) -Recurse -Force
    Step 'pack-managed' 'pack: the NuGet package' 'dotnet' @('pack', 'src/KCacheNative', '-c', 'Release', '-o', $pack)
    Get-ChildItem -Name $pack
}

function Invoke-Publish {
    Invoke-Native
    Confirm-Dotnet
    $publish = Join-Path $Artifacts 'publish'
    Remove-Item $publish -Recurse -Force -ErrorAction SilentlyContinue
    Step 'publish' 'publish: compiling the console ahead of time' 'dotnet' @('publish', 'src/KCacheNative.Console', '-c', 'Release',
        '-r', (Get-Rid), '-p:PublishAot=true', '-o', $publish)
    Join-Path $publish 'kcache'
}

function Invoke-Clean { Remove-Item $Artifacts -Recurse -Force -ErrorAction SilentlyContinue }

if ($args.Count -eq 0) {
    Write-Host 'usage: ./build.ps1 VERB'
    Write-Host $Verbs
    exit
}
$verb, $rest = $args
if (-not ($Verbs -match "(?m)^$([regex]::Escape($verb)) ")) { Stop-With "no verb '$verb'; ./build.ps1 alone lists them" }
$rest = @($rest | Where-Object { $null -ne $_ })
& "Invoke-$verb" @rest
