// Packed blocks for whoever has them as a prefix file shows them, without an engine's pages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/device.h"

namespace kvfs::gpu {

// Packs a canonical block of shape.bytes() into shape.stored_bytes(). false: it does not fit, and
// what was written means nothing.
bool pack_block(const BlockShape& shape, const std::byte* canonical, std::byte* packed);

// Whether every head of a packed block could be packed.
bool block_fits(const BlockShape& shape, const std::byte* packed);

// Bytes [from, to) of the canonical block, whatever the packed bytes are.
void unpack_bytes(const BlockShape& shape, const std::byte* packed, std::uint64_t from,
                  std::uint64_t to, std::byte* out);

}  // namespace kvfs::gpu
