#if defined(_WIN32)

#include <windows.h>

#include <algorithm>
#include <atomic>

#include "core/error.h"
#include "cpu/memory/spill_file.h"

namespace kc {
namespace {

HANDLE as_handle(intptr_t handle) { return reinterpret_cast<HANDLE>(handle); }

std::wstring wide(const char* utf8) {
    const int n = MultiByteToWideChar(CP_UTF8, 0, utf8, -1, nullptr, 0);
    std::wstring text(n > 0 ? static_cast<size_t>(n) : 1, L'\0');
    if (n > 0) MultiByteToWideChar(CP_UTF8, 0, utf8, -1, text.data(), n);
    text.resize(text.size() - 1);
    return text;
}

std::string narrow(const std::wstring& text) {
    const int n = WideCharToMultiByte(CP_UTF8, 0, text.c_str(), -1, nullptr, 0, nullptr, nullptr);
    std::string utf8(n > 0 ? static_cast<size_t>(n) : 1, '\0');
    if (n > 0) WideCharToMultiByte(CP_UTF8, 0, text.c_str(), -1, utf8.data(), n, nullptr, nullptr);
    utf8.resize(utf8.size() - 1);
    return utf8;
}

OVERLAPPED at_offset(uint64_t offset_bytes) {
    OVERLAPPED at = {};
    at.Offset = static_cast<DWORD>(offset_bytes);
    at.OffsetHigh = static_cast<DWORD>(offset_bytes >> 32);
    return at;
}

constexpr uint64_t kMostBytesPerCall = uint64_t(1) << 30;

}  // namespace

std::string SpillFile::error_text(int error) {
    if (error == kUnexpectedEnd) return "unexpected end of file";
    char text[256] = {};
    FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr, static_cast<DWORD>(error), 0,
                   text, sizeof text - 1, nullptr);
    std::string message = text;
    while (!message.empty() && (message.back() == '\n' || message.back() == '\r' || message.back() == '.'))
        message.pop_back();
    return message.empty() ? "error " + std::to_string(error) : message;
}

SpillFile::SpillFile(const char* dir) {
    std::wstring folder;
    if (dir) {
        folder = wide(dir);
    } else {
        wchar_t temporary[MAX_PATH + 1] = {};
        if (!GetTempPathW(MAX_PATH + 1, temporary))
            fail(KC_ERR_IO, "there is no temporary directory; name one in spill_dir");
        folder = temporary;
    }
    dir_ = narrow(folder);
    static std::atomic<uint32_t> n_created{0};
    const std::wstring path = folder + L"\\kcache-spill-" + std::to_wstring(GetCurrentProcessId()) + L"-" +
                              std::to_wstring(GetTickCount64()) + L"-" + std::to_wstring(n_created++);
    HANDLE file = CreateFileW(path.c_str(), GENERIC_READ | GENERIC_WRITE, 0, nullptr, CREATE_NEW,
                              FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE | FILE_FLAG_RANDOM_ACCESS, nullptr);
    if (file == INVALID_HANDLE_VALUE) {
        fail(KC_ERR_IO, "spill_dir %s: no file can be created: %s", dir_.c_str(),
             error_text(static_cast<int>(GetLastError())).c_str());
    }
    handle_ = reinterpret_cast<intptr_t>(file);
}

SpillFile::~SpillFile() {
    if (handle_ != -1) CloseHandle(as_handle(handle_));
}

void SpillFile::reserve(uint64_t n_bytes) {
    if (n_bytes <= n_bytes_) return;
    LARGE_INTEGER end;
    end.QuadPart = static_cast<LONGLONG>(n_bytes);
    if (n_bytes > static_cast<uint64_t>(INT64_MAX) || !SetFilePointerEx(as_handle(handle_), end, nullptr, FILE_BEGIN) ||
        !SetEndOfFile(as_handle(handle_))) {
        fail(KC_ERR_IO,
             "the spill file in %s cannot grow from %llu to %llu bytes: %s; free space there, name another spill_dir, "
             "or "
             "raise fast_budget_bytes",
             dir_.c_str(), static_cast<unsigned long long>(n_bytes_), static_cast<unsigned long long>(n_bytes),
             error_text(static_cast<int>(GetLastError())).c_str());
    }
    n_bytes_ = n_bytes;
}

int SpillFile::read(void* memory, uint64_t offset_bytes, uint64_t n_bytes) const noexcept {
    auto* to = static_cast<char*>(memory);
    while (n_bytes > 0) {
        OVERLAPPED at = at_offset(offset_bytes);
        DWORD n = 0;
        if (!ReadFile(as_handle(handle_), to, static_cast<DWORD>(std::min(n_bytes, kMostBytesPerCall)), &n, &at))
            return static_cast<int>(GetLastError());
        if (n == 0) return kUnexpectedEnd;
        to += n;
        offset_bytes += n;
        n_bytes -= n;
    }
    return 0;
}

int SpillFile::write(const void* memory, uint64_t offset_bytes, uint64_t n_bytes) noexcept {
    const auto* from = static_cast<const char*>(memory);
    while (n_bytes > 0) {
        OVERLAPPED at = at_offset(offset_bytes);
        DWORD n = 0;
        if (!WriteFile(as_handle(handle_), from, static_cast<DWORD>(std::min(n_bytes, kMostBytesPerCall)), &n, &at))
            return static_cast<int>(GetLastError());
        from += n;
        offset_bytes += n;
        n_bytes -= n;
    }
    return 0;
}

}  // namespace kc

#endif
