#include "fs/store/id_bitmap.h"

#include <algorithm>
#include <bit>

namespace kvfs::store {
namespace {

// A bit set at the lowest bit of every byte of `word` that is 0xff.
std::uint64_t full_bytes(std::uint64_t word) {
  word &= word >> 4;
  word &= word >> 2;
  word &= word >> 1;
  return word & 0x0101010101010101ULL;
}

}  // namespace

BlockId IdBitmap::next(BlockId from, BlockId end) const {
  if (from >= end) return kNoBlock;
  std::uint64_t word = words_[from / 64] & (~std::uint64_t{0} << (from % 64));
  for (std::size_t index = from / 64;;) {
    if (word != 0) {
      const auto id =
          static_cast<BlockId>(index * 64 + static_cast<unsigned>(std::countr_zero(word)));
      return id < end ? id : kNoBlock;
    }
    if (++index * 64 >= end) return kNoBlock;
    word = words_[index];
  }
}

BlockId IdBitmap::next_full_byte(BlockId from, BlockId end, std::uint32_t limit) const {
  const std::size_t count = (std::size_t{end} + 63) / 64;
  const std::size_t steps = std::min<std::size_t>(count, limit / 64 + 1);
  for (std::size_t step = 0; step < steps; ++step) {
    std::size_t index = from / 64 + step;
    if (index >= count) index -= count;
    if (const std::uint64_t bytes = full_bytes(words_[index]); bytes != 0) {
      return static_cast<BlockId>(index * 64 + static_cast<unsigned>(std::countr_zero(bytes)));
    }
  }
  return kNoBlock;
}

}  // namespace kvfs::store
