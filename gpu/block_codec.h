// Encoded blocks for whoever has them as a prefix file shows them, without an engine's pages.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/device.h"
#include "gpu/quantize_codec.h"

namespace kvfs::gpu {

// Writes one tensor of a block, whole, where it is stored; `stored` has shape.stored_bytes(), what
// no tensor covers is to be 0. false: packed, it does not fit, and what was written means nothing.
bool write_tensor(const BlockShape& shape, BlockTensor tensor, const std::byte* values,
                  std::byte* stored);

// Bytes [from, to) of a tensor, whatever the stored bytes are.
void read_tensor(const BlockShape& shape, BlockTensor tensor, const std::byte* stored,
                 std::uint64_t from, std::uint64_t to, std::byte* out);

// Whether every head of a packed block could be packed.
bool block_fits(const BlockShape& shape, const std::byte* packed);

// Of a quantized block.
void add_block_errors(const BlockShape& shape, const std::byte* stored, QuantizeErrors& errors);

}  // namespace kvfs::gpu
