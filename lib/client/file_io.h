// Whole reads and writes of a mount's files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lib/format/result.h"

namespace kvfs::client {

Status read_at(int fd, std::span<std::byte> bytes, std::uint64_t offset, std::string_view what);
Status write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset,
                std::string_view what);

}  // namespace kvfs::client
