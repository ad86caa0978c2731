// A file without a name on a local disk: positioned reads and writes, and blocks that are reserved before they are
// written. Nothing of it outlives the process.
#pragma once

#include <cstdint>
#include <string>

namespace kc {

class SpillFile {
  public:
    // dir (UTF-8) nullptr: the first of $TMPDIR, /tmp and /var/tmp (on Windows: the temporary directory) that can be
    // used. Throws an Error (IO) naming the directory and the reason; a directory in memory is refused.
    explicit SpillFile(const char* dir);
    ~SpillFile();
    SpillFile(const SpillFile&) = delete;
    SpillFile& operator=(const SpillFile&) = delete;

    // The file is at least n_bytes long and its blocks are there. Throws an Error (IO), and is then as long as before.
    void reserve(uint64_t n_bytes);

    // All n_bytes or an error number of the system; 0 is success. Any thread.
    int read(void* memory, uint64_t offset_bytes, uint64_t n_bytes) const noexcept;
    int write(const void* memory, uint64_t offset_bytes, uint64_t n_bytes) noexcept;

    const std::string& dir() const { return dir_; }
    uint64_t n_bytes() const { return n_bytes_; }
    intptr_t handle() const { return handle_; }

    static constexpr int kUnexpectedEnd = -1;  // read behind the end of the file
    static std::string error_text(int error);

  private:
    std::string dir_;
    intptr_t handle_ = -1;
    uint64_t n_bytes_ = 0;
};

}  // namespace kc
