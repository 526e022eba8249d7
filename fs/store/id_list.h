// IdList: ids in no order, added and removed in constant time. Where an id stands is kept by the
// block itself.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/format/index_layout.h"

namespace kvfs::store {

inline constexpr std::uint32_t kNoPosition = 0xffffffffU;

// Threads: none of its own. Owns: the list. Blocks: never. Errors: none.
class IdList {
 public:
  // `position(id)` is a reference to the number that id keeps for this list.
  template <typename Position>
  void add(BlockId id, Position&& position) {
    if (position(id) != kNoPosition) return;
    position(id) = static_cast<std::uint32_t>(ids_.size());
    ids_.push_back(id);
  }
  template <typename Position>
  void remove(BlockId id, Position&& position) {
    const std::uint32_t place = position(id);
    if (place == kNoPosition) return;
    const BlockId last = ids_.back();
    ids_[place] = last;
    position(last) = place;
    position(id) = kNoPosition;
    ids_.pop_back();
  }
  [[nodiscard]] std::span<const BlockId> ids() const { return ids_; }
  [[nodiscard]] std::uint64_t memory_bytes() const { return ids_.capacity() * sizeof(BlockId); }

 private:
  std::vector<BlockId> ids_;
};

}  // namespace kvfs::store
