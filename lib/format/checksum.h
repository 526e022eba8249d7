// The checksum of a block's bytes: XXH3-64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kvfs {

std::uint64_t block_checksum(std::span<const std::byte> bytes);

}  // namespace kvfs
