#include "fs/store/id_pool.h"

#include <cassert>

namespace kvfs::store {
namespace {

// How many ids a search for a run looks at before it makes do with what there is.
constexpr std::uint32_t kRunSearch = 1U << 16;

}  // namespace

void IdPool::grow(std::uint32_t capacity) {
  capacity_ = capacity;
  free_.grow(capacity);
}

BlockId IdPool::take_fresh() { return high_ < capacity_ ? high_++ : kNoBlock; }

BlockId IdPool::take_hole(BlockId id) {
  if (id == kNoBlock) return kNoBlock;
  free_.clear(id);
  --holes_;
  cursor_ = id;
  return id;
}

BlockId IdPool::take(BlockId parent) {
  if (parent != kNoBlock) {
    const BlockId next = parent + 1;
    if (next < high_ && free_.test(next)) return take_hole(next);
    if (next == high_ && next < capacity_) return take_fresh();
  }
  if (holes_ >= 8) {
    const BlockId run = take_hole(free_.next_full_byte(cursor_, high_, kRunSearch));
    if (run != kNoBlock) return run;
  }
  if (holes_ <= high_ / 8) {
    const BlockId fresh = take_fresh();
    if (fresh != kNoBlock) return fresh;
  }
  if (holes_ == 0) return take_fresh();
  const BlockId after = free_.next(cursor_, high_);
  return take_hole(after != kNoBlock ? after : free_.next(0, high_));
}

bool IdPool::take_exact(BlockId id) {
  assert(id < capacity_);
  if (id < high_) {
    if (!free_.test(id)) return false;
    take_hole(id);
    return true;
  }
  for (; high_ < id; ++high_, ++holes_) free_.set(high_);
  ++high_;
  return true;
}

void IdPool::give_back(BlockId id) {
  assert(id < high_ && !free_.test(id));
  free_.set(id);
  ++holes_;
}

}  // namespace kvfs::store
