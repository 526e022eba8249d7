// EncodedCopy: blocks that are not stored raw to pages and back, on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "gpu/copy_kernel.h"
#include "gpu/device.h"
#include "gpu/head_codec.h"
#include "gpu/page_copy.h"

namespace kvfs::gpu {

// One transfer. Some planes at a time pass through a buffer that stays in the cache, so neither
// the encoding nor the engine's strides know of each other.
// Threads: immutable; copy() from any thread, which keeps a buffer of its own.
// Owns:    nothing; what it was made of must outlive it.
// Blocks:  never.
// Errors:  none; the pages must have passed check_pages. Whether a head could be packed, it says
//          itself (packed_fits).
class EncodedCopy {
 public:
  EncodedCopy(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
              Direction direction, Stores stores);

  // An item is one head of one block, which is in one piece.
  [[nodiscard]] std::size_t items() const { return blocks_.size() * heads_; }
  [[nodiscard]] std::uint64_t item_bytes() const {
    return (planes_.end - planes_.first) * plane_bytes_;
  }
  void copy(std::size_t begin, std::size_t end) const;

 private:
  void decode_head(const BlockAt& block, std::uint32_t head) const;
  void encode_head(const BlockAt& block, std::uint32_t head) const;
  // Between the buffer and the pages: planes [first, first + count) of a head.
  void move_planes(const BlockAt& block, std::uint32_t head, std::uint32_t first,
                   std::uint32_t count, std::byte* buffer) const;
  // Brings a plane's stored part into the cache, where it is one of the head's.
  template <bool kToWrite>
  void fetch_stored(const std::byte* stored, std::uint32_t plane) const;
  // Brings what move_planes will read of a plane into the cache.
  void fetch_plane(const BlockAt& block, std::uint32_t head, std::uint32_t plane) const;
  // The plane's first token in page 0.
  [[nodiscard]] std::byte* page_base(std::uint32_t head, std::uint32_t plane) const;
  [[nodiscard]] std::byte* head_of(const BlockAt& block, std::uint32_t head) const;

  const BlockShape& shape_;
  const std::span<const BlockAt> blocks_;
  const Pages& pages_;
  const Direction direction_;
  const Stores stores_;
  const std::uint32_t heads_;
  const HeadCodec codec_;
  const std::size_t plane_bytes_;
  const struct { std::uint32_t first, end; } planes_;  // of each head, to pages; to blocks go all
  const std::uint32_t batch_;                          // planes that are in the buffer at once
};

}  // namespace kvfs::gpu
