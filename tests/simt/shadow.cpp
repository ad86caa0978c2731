// What the machine remembers of every word of device, pinned and shared memory, and the rules it judges accesses by.
//
// A word of 4 bytes has one cell: which bytes were ever written, who wrote it last, who read it last. It is wrong
//   - to leave a live allocation, to touch another thread's local memory or memory of the host;
//   - to read a byte of device or shared memory that nothing wrote;
//   - to touch a byte that an earlier access touched, one of the two a write, where nothing orders the two:
//       by another piece of work:     no event, stream order or wait of the host puts it before this one;
//       by another block of the grid: blocks have no order;
//       by another thread of the block: no barrier between them (for shared memory a __syncwarp also orders a warp).
//     Two atomic accesses never conflict.
// One writer and one reader are remembered per word, and whether there were several readers; so a rare conflict hides
// behind a later access. Another seed brings another order, and finds it.
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "machine.h"

namespace simt {

uint32_t* free_reads = nullptr;

namespace {

constexpr uint32_t kSeveral = 0xffffffff;

// Whom the remembered access stands for: one thread, threads of one warp, or threads of several warps.
enum class Several : uint8_t { no, in_warp, in_block };

struct Cell {
    uint32_t writer;  // work number, 0: nobody; in shared memory the block's serial number
    uint32_t reader;
    uint32_t writer_block;
    uint32_t reader_block;  // kSeveral: of more than one block
    uint32_t writer_epoch;
    uint32_t reader_epoch;
    uint32_t writer_warp_epoch;
    uint32_t reader_warp_epoch;
    uint16_t writer_thread;
    uint16_t reader_thread;
    uint8_t written;      // bytes that hold something
    uint8_t writer_mask;  // bytes of the last write
    uint8_t reader_mask;
    bool writer_atomic;
    Several readers;  // since the last barrier that lay between reads
};

Cell* arena_cells = nullptr;
std::vector<Cell> shared_cells;
std::vector<uint32_t> shared_serial;  // the block that a shared cell speaks of

template <class T>
T* room_for(size_t n) {
    void* room =
        mmap(nullptr, n * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        std::perror("simt: cannot reserve the shadow memory");
        std::abort();
    }
    return static_cast<T*>(room);
}

Cell* cells() {
    if (!arena_cells) {
        arena_cells = room_for<Cell>(kArenaWords);
        free_reads = room_for<uint32_t>(kArenaWords + kSharedWindowBytes / 4);
    }
    return arena_cells;
}

const char* verb(Access access) {
    return access == Access::read ? "reads" : access == Access::write ? "writes" : "changes atomically";
}

[[noreturn]] void wrong(uintptr_t address, size_t n_bytes, Access access, const void* code, const std::string& what) {
    const std::string where = code ? " at " + describe_code(code) : std::string();
    defect("%s %zu bytes at %p%s: %s", verb(access), n_bytes, reinterpret_cast<void*>(address), where.c_str(),
           what.c_str());
}

std::string describe_thread(uint32_t thread) { return "thread " + std::to_string(thread); }

// Is an earlier access of the same work (or block, for shared memory) unordered with this one?
bool unordered(const Place& here, uint32_t block, uint32_t thread, uint32_t epoch, uint32_t warp_epoch, Several several,
               bool shared) {
    if (!shared && block != here.block) return true;
    if (epoch != here.block_epoch) return false;
    if (several == Several::in_block || thread / 32 != here.thread / 32) return true;
    if (several == Several::no && thread == here.thread) return false;
    return shared && warp_epoch == here.warp_epoch;
}

// A read of what this thread, or threads of several warps, read since the last barrier, with nothing written since:
// neither wrong nor news.
inline bool is_repeated_read(const Cell& cell, uint8_t mask, const Place& here, uint32_t work, Access access) {
    return access == Access::read && cell.reader == work && cell.reader_epoch == here.block_epoch &&
           cell.reader_block == here.block && (cell.reader_mask & mask) == mask &&
           (cell.readers == Several::in_block || (cell.readers == Several::no && cell.reader_thread == here.thread &&
                                                  cell.reader_warp_epoch == here.warp_epoch)) &&
           (cell.writer != work || cell.writer_epoch != here.block_epoch);
}

void judge(Cell& cell, uint32_t& free_read, uint8_t mask, const Place& here, uint32_t work, bool shared,
           bool check_written, uintptr_t address, size_t n_bytes, Access access, const void* code) {
    if (is_repeated_read(cell, mask, here, work, access)) return;
    if (access != Access::write && check_written && (cell.written & mask) != mask) {
        wrong(address, n_bytes, access, code, "nothing was ever written there");
    }
    const bool atomic = access == Access::atomic;
    if (cell.writer && (cell.writer_mask & mask) && !(atomic && cell.writer_atomic)) {
        if (cell.writer != work) {
            if (!shared && !happened_before(cell.writer)) {
                wrong(address, n_bytes, access, code,
                      "written by " + describe_work(cell.writer) + ", and nothing orders the two");
            }
        } else if (current && unordered(here, cell.writer_block, cell.writer_thread, cell.writer_epoch,
                                        cell.writer_warp_epoch, Several::no, shared)) {
            wrong(address, n_bytes, access, code,
                  cell.writer_block != here.block
                      ? "block " + std::to_string(cell.writer_block) + " wrote it, and blocks have no order"
                      : describe_thread(cell.writer_thread) + " wrote it, and no barrier lies between");
        }
    }
    if (access != Access::read && cell.reader && (cell.reader_mask & mask)) {
        if (cell.reader != work) {
            if (!shared && !happened_before(cell.reader)) {
                wrong(address, n_bytes, access, code,
                      "read by " + describe_work(cell.reader) + ", and nothing orders the two");
            }
        } else if (current && unordered(here, cell.reader_block, cell.reader_thread, cell.reader_epoch,
                                        cell.reader_warp_epoch, cell.readers, shared)) {
            wrong(address, n_bytes, access, code,
                  cell.reader_block != here.block
                      ? "another block read it, and blocks have no order"
                      : describe_thread(cell.reader_thread) + " read it, and no barrier lies between");
        }
    }
    if (access == Access::read) {
        const bool same_work = cell.reader == work && (cell.reader_mask & mask);
        const bool same_epoch = same_work && cell.reader_epoch == here.block_epoch;
        const bool same_warp = cell.reader_thread / 32 == here.thread / 32;
        if (!same_epoch) {
            cell.readers = Several::no;
        } else if (!same_warp || cell.readers == Several::in_block) {
            cell.readers = Several::in_block;
        } else if (cell.reader_warp_epoch != here.warp_epoch) {
            cell.readers = Several::no;  // a __syncwarp lies between this read and those before it
        } else if (cell.reader_thread != here.thread) {
            cell.readers = Several::in_warp;
        }
        cell.reader_thread = static_cast<uint16_t>(here.thread);
        cell.reader_block = same_work && cell.reader_block != here.block ? kSeveral : here.block;
        cell.reader_mask = same_work ? cell.reader_mask | mask : mask;
        cell.reader = work;
        cell.reader_epoch = here.block_epoch;
        cell.reader_warp_epoch = here.warp_epoch;
        // From here on such a read is a repeated one for more than this thread.
        const bool whole = cell.reader_mask == 15 && (cell.writer != work || cell.writer_epoch != here.block_epoch);
        if (current && whole && cell.readers != Several::no)
            free_read = cell.readers == Several::in_block ? block_era : warp_era;
    } else {
        free_read = 0;
        const bool mine = cell.writer == work && cell.writer_block == here.block && cell.writer_thread == here.thread;
        cell.writer_mask = mine ? cell.writer_mask | mask : mask;
        cell.writer = work;
        cell.writer_block = here.block;
        cell.writer_thread = static_cast<uint16_t>(here.thread);
        cell.writer_epoch = here.block_epoch;
        cell.writer_warp_epoch = here.warp_epoch;
        cell.writer_atomic = atomic;
        cell.written |= mask;
    }
}

uint8_t mask_of(uintptr_t word, uintptr_t begin, uintptr_t end) {
    const uintptr_t from = std::max(word, begin) - word, to = std::min(word + 4, end) - word;
    return static_cast<uint8_t>((1u << to) - (1u << from));
}

// Constants of the program itself: segments that nobody can write.
bool in_constants(uintptr_t address, size_t n_bytes) {
    static std::vector<std::pair<uintptr_t, uintptr_t>> segments = [] {
        std::vector<std::pair<uintptr_t, uintptr_t>> found;
        dl_iterate_phdr(
            [](dl_phdr_info* info, size_t, void* out) {
                uintptr_t relro_begin = 0, relro_end = 0;
                auto& list = *static_cast<std::vector<std::pair<uintptr_t, uintptr_t>>*>(out);
                for (int i = 0; i < info->dlpi_phnum; ++i) {
                    const auto& p = info->dlpi_phdr[i];
                    const uintptr_t begin = info->dlpi_addr + p.p_vaddr;
                    if (p.p_type == PT_LOAD && !(p.p_flags & PF_W)) list.emplace_back(begin, begin + p.p_memsz);
                    if (p.p_type == PT_GNU_RELRO) relro_begin = begin, relro_end = begin + p.p_memsz;
                }
                if (relro_end) list.emplace_back(relro_begin, relro_end);
                return 0;
            },
            &found);
        return found;
    }();
    for (const auto& [begin, end] : segments) {
        if (address >= begin && address + n_bytes <= end) return true;
    }
    return false;
}

void check_shared(uintptr_t address, size_t n_bytes, Access access, const void* code) {
    const Place here = place();
    cells();
    if (address + n_bytes > shared_base() + shared_bytes()) {
        wrong(address, n_bytes, access, code,
              "byte " + std::to_string(address - shared_base()) + " of a shared window of " +
                  std::to_string(shared_bytes()) + " bytes");
    }
    const size_t n_words = (shared_bytes() + 3) / 4;
    if (shared_cells.size() < n_words) {
        shared_cells.resize(n_words);
        shared_serial.resize(n_words);
    }
    for (uintptr_t word = address & ~uintptr_t{3}; word < address + n_bytes; word += 4) {
        const size_t i = (word - shared_base()) / 4;
        if (shared_serial[i] != here.block_serial) {
            shared_cells[i] = {};
            shared_serial[i] = here.block_serial;
        }
        judge(shared_cells[i], free_reads[kArenaWords + i], mask_of(word, address, address + n_bytes), here,
              here.block_serial, true, true, address, n_bytes, access, code);
    }
}

}  // namespace

void check_access(uintptr_t address, size_t n_bytes, Access access, const void* code) {
    if (n_bytes == 0) return;
    if (current) {
        if (in_own_stack(address, n_bytes)) return;
        if (in_shared(address)) return check_shared(address, n_bytes, access, code);
    }
    const Allocation* allocation = find_allocation(address);
    if (!allocation) {
        if (!current) return;  // the host's side of a copy
        if (access == Access::read && (in_parameters(address, n_bytes) || in_constants(address, n_bytes))) return;
        wrong(
            address, n_bytes, access, code,
            in_any_stack(address) ? "local memory of another thread" : "memory of the host, not allocated for devices");
    }
    if (allocation->freed) {
        wrong(address, n_bytes, access, code,
              "allocation " + std::to_string(allocation_number(allocation)) + " was freed");
    }
    if (address + n_bytes > allocation->base + allocation->n_bytes) {
        wrong(address, n_bytes, access, code,
              std::to_string(address - allocation->base) + " bytes into allocation " +
                  std::to_string(allocation_number(allocation)) + " of " + std::to_string(allocation->n_bytes) +
                  " bytes");
    }
    const Place here = current ? place() : Place{};
    const bool check_written = current && allocation->space == Space::device;
    Cell* cell = cells() + (address - arena_base) / 4;
    uint32_t* free_read = free_reads + (address - arena_base) / 4;
    const uint32_t work = running_number();
    for (uintptr_t word = address & ~uintptr_t{3}; word < address + n_bytes; word += 4, ++cell) {
        judge(*cell, *free_read++, mask_of(word, address, address + n_bytes), here, work, false, check_written, address,
              n_bytes, access, code);
    }
}

void shadow_copy(uintptr_t to, uintptr_t from, size_t n_bytes) {
    // Bytes that nothing wrote stay so in the copy (a copy of padding is no mistake); host and pinned memory count as
    // written.
    const Allocation *source = find_allocation(from), *target = find_allocation(to);
    if (!target || target->space != Space::device || !source || source->space != Space::device) return;
    for (size_t i = 0; i < n_bytes; ++i) {
        const uintptr_t a = from + i - arena_base, b = to + i - arena_base;
        const bool written = cells()[a / 4].written >> (a % 4) & 1;
        uint8_t& mask = cells()[b / 4].written;
        mask = static_cast<uint8_t>(written ? mask | 1u << (b % 4) : mask & ~(1u << (b % 4)));
    }
}

void shadow_forget(uintptr_t address, size_t n_bytes) {
    constexpr uintptr_t page = 4096;
    const auto begin = reinterpret_cast<uintptr_t>(cells() + (address - arena_base) / 4);
    const auto end = reinterpret_cast<uintptr_t>(cells() + (address - arena_base + n_bytes + 3) / 4);
    const uintptr_t from = (begin + page - 1) & ~(page - 1), to = end & ~(page - 1);
    if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
}

}  // namespace simt
