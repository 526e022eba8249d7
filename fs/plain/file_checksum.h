#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

namespace kvfs::plain {

// XXH3-64 of a file's bytes; nothing when they cannot be read, or `stopping` became true.
// Blocks: while they are read.
std::optional<std::uint64_t> file_checksum(int fd, const std::atomic<bool>& stopping);

// Drops the errno of a system call on purpose; the reason stays in the source.
inline void ignore_errno(int /*error*/, std::string_view /*reason*/) {}

}  // namespace kvfs::plain
