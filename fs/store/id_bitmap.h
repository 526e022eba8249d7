// IdBitmap: a set of block ids, walked in ascending order.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/format/index_layout.h"

namespace kvfs::store {

// Threads: none of its own. Owns: its bits. Blocks: never. Errors: none.
class IdBitmap {
 public:
  void grow(std::uint32_t capacity) { words_.resize((std::size_t{capacity} + 63) / 64); }
  void set(BlockId id) { words_[id / 64] |= bit(id); }
  void clear(BlockId id) { words_[id / 64] &= ~bit(id); }
  [[nodiscard]] bool test(BlockId id) const { return (words_[id / 64] & bit(id)) != 0; }

  // The first member in [from, end), or kNoBlock.
  [[nodiscard]] BlockId next(BlockId from, BlockId end) const;
  // The first id of eight aligned members, looked for in at most `limit` ids from `from` on and
  // round again from 0; kNoBlock if there is none.
  [[nodiscard]] BlockId next_full_byte(BlockId from, BlockId end, std::uint32_t limit) const;
  [[nodiscard]] std::uint64_t memory_bytes() const { return words_.capacity() * 8; }

 private:
  static std::uint64_t bit(BlockId id) { return std::uint64_t{1} << (id % 64); }

  std::vector<std::uint64_t> words_;
};

}  // namespace kvfs::store
