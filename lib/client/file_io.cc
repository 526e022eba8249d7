#include "lib/client/file_io.h"

#include <unistd.h>

#include <cerrno>
#include <string>

#include "lib/client/errors.h"

namespace kvfs::client {

Status read_at(int fd, std::span<std::byte> bytes, std::uint64_t offset, std::string_view what) {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return block_error(errno, what);
    if (got == 0) return fail(Code::kCorrupt, std::string(what) + " is shorter than its blocks");
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return {};
}

Status write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset,
                std::string_view what) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return mount_error(errno, what);
    if (put == 0) return fail(Code::kIo, std::string(what) + " took no more bytes");
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  return {};
}

}  // namespace kvfs::client
