// IdPool: which block ids are free. A prefix's blocks get neighbouring ids where that is possible:
// a match then reads the index in sequence.
#pragma once

#include <cstdint>
#include <vector>

#include "fs/store/id_bitmap.h"
#include "lib/format/index_layout.h"

namespace kvfs::store {

// Ids at or above high() were never handed out; the file's memory ends there. Holes below are used
// first: whole runs of eight, so that chains stay together, single ids once holes are more than an
// eighth of all.
//
// Threads: none of its own; the owner locks.
// Owns:    a bit an id.
// Blocks:  never. Errors: kNoBlock when there is no free id: grow().
class IdPool {
 public:
  void grow(std::uint32_t capacity);
  // A free id for the child of `parent`.
  BlockId take(BlockId parent);
  // This very id, below the capacity; false when it is taken.
  bool take_exact(BlockId id);
  void give_back(BlockId id);

  [[nodiscard]] BlockId high() const { return high_; }
  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }
  [[nodiscard]] std::uint64_t memory_bytes() const { return free_.memory_bytes(); }

 private:
  BlockId take_fresh();
  BlockId take_hole(BlockId id);

  IdBitmap free_;  // of ids below high_
  std::uint32_t capacity_ = 0;
  BlockId high_ = 0;
  std::uint32_t holes_ = 0;
  BlockId cursor_ = 0;  // where the last search for a hole ended
};

}  // namespace kvfs::store
