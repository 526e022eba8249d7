// Packing: how much smaller real KV gets, and whether every bit comes back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "gpu/device.h"
#include "lib/format/packed_block.h"

namespace kvfs::bench {

// Threads: one.
// Owns:    what it has counted.
// Blocks:  never.
// Errors:  none; the shape must be packable.
class Packing {
 public:
  explicit Packing(const gpu::BlockShape& shape);

  // Packs a canonical block and unpacks it again.
  void add(std::span<const std::uint16_t> block);
  [[nodiscard]] std::uint64_t bits_different() const { return bits_different_; }
  [[nodiscard]] nlohmann::json result() const;

 private:
  bool add_head(const std::uint16_t* values);
  void compare(const std::uint16_t* values);
  [[nodiscard]] nlohmann::json of_layer(std::uint32_t layer) const;

  const gpu::BlockShape shape_;
  const PackedLayout layout_;
  const std::size_t plane_;  // values
  std::vector<std::byte> head_;
  std::vector<std::uint16_t> unpacked_;
  std::vector<std::uint64_t> escapes_;  // of each plane
  std::uint64_t blocks_ = 0, raw_blocks_ = 0, bits_different_ = 0;
  std::uint32_t most_escapes_ = 0;
};

}  // namespace kvfs::bench
