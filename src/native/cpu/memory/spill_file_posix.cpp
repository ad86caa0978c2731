#if !defined(_WIN32)

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/magic.h>
#include <sys/vfs.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "core/error.h"
#include "cpu/memory/spill_file.h"

namespace kc {
namespace {

// Why a directory cannot hold the file, or "".
std::string refusal(const char* dir) {
    struct stat status;
    if (stat(dir, &status) != 0) return SpillFile::error_text(errno);
    if (!S_ISDIR(status.st_mode)) return "it is not a directory";
#if defined(__linux__)
    struct statfs system;
    if (statfs(dir, &system) != 0) return SpillFile::error_text(errno);
    const auto type = static_cast<unsigned long>(system.f_type);
    if (type == TMPFS_MAGIC || type == static_cast<unsigned long>(RAMFS_MAGIC))
        return "it is a tmpfs, which is memory in disguise; name a directory on a disk";
#endif
    return "";
}

// A file that no directory lists, or -1 and errno.
int open_unnamed(const std::string& dir) {
#if defined(O_TMPFILE)
    const int unnamed = open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (unnamed >= 0) return unnamed;
        // File systems without unnamed files answer in several ways; what stands in the way of any file shows below.
#endif
    std::string path = dir + "/kcache-spill-XXXXXX";
    const int named = mkstemp(path.data());
    if (named < 0) return -1;
    fcntl(named, F_SETFD, FD_CLOEXEC);
    unlink(path.c_str());
    return named;
}

// Returns an error number.
int reserve_blocks(int fd, uint64_t from, uint64_t to) {
#if defined(__linux__)
    int error;
    do {
        error = posix_fallocate(fd, static_cast<off_t>(from), static_cast<off_t>(to - from));
    } while (error == EINTR);
    if (error != EOPNOTSUPP && error != EINVAL) return error;
#endif
    static const char zeros[65536] = {};
    for (uint64_t at = from; at < to;) {
        const ssize_t n = pwrite(fd, zeros, std::min<uint64_t>(sizeof zeros, to - at), static_cast<off_t>(at));
        if (n < 0 && errno != EINTR) return errno;
        if (n > 0) at += static_cast<uint64_t>(n);
    }
    return 0;
}

}  // namespace

std::string SpillFile::error_text(int error) {
    if (error == kUnexpectedEnd) return "unexpected end of file";
    return std::generic_category().message(error);
}

SpillFile::SpillFile(const char* dir) {
    if (dir) {
        const std::string why = refusal(dir);
        if (!why.empty()) fail(KC_ERR_IO, "spill_dir %s cannot be used: %s", dir, why.c_str());
        dir_ = dir;
        handle_ = open_unnamed(dir_);
        if (handle_ < 0) fail(KC_ERR_IO, "spill_dir %s: no file can be created: %s", dir, error_text(errno).c_str());
    } else {
        std::string reasons;
        const char* candidates[] = {std::getenv("TMPDIR"), "/tmp", "/var/tmp"};
        for (const char* candidate : candidates) {
            if (!candidate || !*candidate) continue;
            std::string why = refusal(candidate);
            if (why.empty()) {
                handle_ = open_unnamed(candidate);
                if (handle_ >= 0) {
                    dir_ = candidate;
                    break;
                }
                why = error_text(errno);
            }
            reasons += std::string(reasons.empty() ? "" : "; ") + candidate + ": " + why;
        }
        if (handle_ < 0)
            fail(KC_ERR_IO, "no temporary directory can be used (%s); name one in spill_dir", reasons.c_str());
    }
#if defined(__linux__)
    // Rows are chosen by their weights: what lies behind a row is rarely wanted next.
    posix_fadvise(static_cast<int>(handle_), 0, 0, POSIX_FADV_RANDOM);
#endif
}

SpillFile::~SpillFile() {
    if (handle_ >= 0) close(static_cast<int>(handle_));
}

void SpillFile::reserve(uint64_t n_bytes) {
    if (n_bytes <= n_bytes_) return;
    int error = 0;
    // Beyond this limit the system would end the process with a signal rather than answer.
    struct rlimit limit;
    if (n_bytes > static_cast<uint64_t>(INT64_MAX)) {
        error = EFBIG;
    } else if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && n_bytes > limit.rlim_cur) {
        error = EFBIG;
    } else {
        error = reserve_blocks(static_cast<int>(handle_), n_bytes_, n_bytes);
        if (error && ftruncate(static_cast<int>(handle_), static_cast<off_t>(n_bytes_)) != 0) {
            // The blocks stay with the file until it is closed; its length as we know it has not changed.
        }
    }
    if (error) {
        fail(KC_ERR_IO,
             "the spill file in %s cannot grow from %llu to %llu bytes: %s; free space there, name another spill_dir, "
             "or "
             "raise fast_budget_bytes",
             dir_.c_str(), static_cast<unsigned long long>(n_bytes_), static_cast<unsigned long long>(n_bytes),
             error_text(error).c_str());
    }
    n_bytes_ = n_bytes;
}

int SpillFile::read(void* memory, uint64_t offset_bytes, uint64_t n_bytes) const noexcept {
    auto* to = static_cast<char*>(memory);
    while (n_bytes > 0) {
        const ssize_t n = pread(static_cast<int>(handle_), to, n_bytes, static_cast<off_t>(offset_bytes));
        if (n < 0) {
            if (errno == EINTR) continue;
            return errno;
        }
        if (n == 0) return kUnexpectedEnd;
        to += n;
        offset_bytes += static_cast<uint64_t>(n);
        n_bytes -= static_cast<uint64_t>(n);
    }
    return 0;
}

int SpillFile::write(const void* memory, uint64_t offset_bytes, uint64_t n_bytes) noexcept {
    const auto* from = static_cast<const char*>(memory);
    while (n_bytes > 0) {
        const ssize_t n = pwrite(static_cast<int>(handle_), from, n_bytes, static_cast<off_t>(offset_bytes));
        if (n < 0) {
            if (errno == EINTR) continue;
            return errno;
        }
        from += n;
        offset_bytes += static_cast<uint64_t>(n);
        n_bytes -= static_cast<uint64_t>(n);
    }
    return 0;
}

}  // namespace kc

#endif
