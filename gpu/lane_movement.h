// What a lane (cuda_lane.h) is asked to move, and the parts it goes in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "gpu/device.h"

namespace kvfs::gpu {

enum class LaneDirection : std::uint8_t { kLoad, kStore };

// What a part carries at most: the link rests some microseconds between two copies.
constexpr std::uint64_t kMostPartBytes = std::uint64_t{32} << 20;

// Blocks to pages or back. Refers to the caller's.
struct LaneMovement {
  const BlockShape& shape;
  std::span<const BlockAt> blocks;
  const Pages& pages;
  const After& after;
  std::uint32_t heads;   // wanted of each block
  std::uint32_t layers;  // wanted of each head
  bool begun = false;    // the first part has been submitted, pages are checked
  [[nodiscard]] bool encoded() const { return shape.encoding != Encoding::kRaw; }
  [[nodiscard]] bool some_layers() const { return layers != shape.layers; }
  // Of one head, what is wanted of it: as an engine has it, and (about) as it is stored.
  [[nodiscard]] std::uint64_t plane_bytes() const {
    return shape.head_bytes() / shape.layers * layers;
  }
  [[nodiscard]] std::uint64_t head_bytes() const;
  [[nodiscard]] std::uint64_t bytes() const { return blocks.size() * heads * head_bytes(); }
};

LaneMovement movement_of(const BlockShape& shape, std::span<const BlockAt> blocks,
                         const Pages& pages, const After& after);

// Some blocks and some of their heads.
struct LanePiece {
  std::span<const BlockAt> blocks;
  std::uint32_t first_head;  // counted from Pages::first_head
  std::uint32_t heads;
  bool local = false;       // from the device's own memory: no link to wait for
  bool all_layers = false;  // are where the blocks lie, not just those wanted
};

// Cuts a movement into whole blocks or, where those are too large, into heads of one.
// Threads: one.
// Owns:    nothing.
// Blocks:  never.
// Errors:  none.
class LanePieces {
 public:
  LanePieces(const LaneMovement& movement, LaneDirection direction)
      : movement_(movement), direction_(direction), left_(movement.bytes()) {}

  [[nodiscard]] bool at_end() const { return left_ == 0; }
  [[nodiscard]] std::uint64_t left() const { return left_; }  // bytes
  LanePiece next();

 private:
  [[nodiscard]] std::uint64_t bytes() const;
  void advance() {
    head_ = 0;
    ++block_;
  }

  const LaneMovement& movement_;
  const LaneDirection direction_;
  std::uint64_t left_;
  std::uint64_t moved_ = 0;
  std::size_t block_ = 0;
  std::uint32_t head_ = 0;
};

}  // namespace kvfs::gpu
