// PageCopy: blocks to pages and back, as tiles for the copy kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "gpu/copy_kernel.h"
#include "gpu/device.h"
#include "gpu/pages.h"

namespace kvfs::gpu {

enum class Direction : std::uint8_t { kToPages, kToBlock };

// One transfer. Its tiles come in the order in which their sources lie in memory: reading in
// sequence is worth more than writing in sequence, since nothing waits for a write.
// Threads: immutable; copy() from any thread.
// Owns:    nothing; what it was made of must outlive it.
// Blocks:  never.
// Errors:  none; the pages must have passed check_pages.
class PageCopy {
 public:
  PageCopy(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
           Direction direction, Stores stores);

  // An item is one layer of one block, all layers wanted of a block side by side.
  [[nodiscard]] std::size_t items() const { return blocks_.size() * layers_; }
  [[nodiscard]] std::uint64_t item_bytes() const;
  void copy(std::size_t begin, std::size_t end) const;

 private:
  struct Layers {
    std::uint32_t first, last;
  };
  class Tiles;
  void add_runs(Tiles& tiles, const BlockAt& block, const Segment& segment, Layers layers) const;
  void add_rows(Tiles& tiles, const BlockAt& block, const Segment& segment, Layers layers) const;
  void add(Tiles& tiles, const BlockAt& block, const Segment& segment, std::uint32_t head,
           std::uint32_t layer, std::uint32_t kv, std::size_t outer) const;
  // Strides in a page and in a block, in the direction of the copy.
  [[nodiscard]] Grid run_grid(std::uint32_t tokens) const;
  [[nodiscard]] Grid row_grid() const;

  const BlockShape& shape_;
  const std::span<const BlockAt> blocks_;
  const Pages& pages_;
  const Direction direction_;
  const Stores stores_;
  const std::uint32_t heads_;
  const std::uint32_t layers_;
  const std::int64_t row_;    // bytes of one token of one head
  const std::int64_t plane_;  // bytes of all its tokens, which lie side by side in a block
};

}  // namespace kvfs::gpu
