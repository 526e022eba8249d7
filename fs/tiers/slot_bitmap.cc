#include "fs/tiers/slot_bitmap.h"

#include <algorithm>
#include <bit>

namespace kvfs::tiers {
namespace {

constexpr std::uint32_t kWordBits = 64;
constexpr std::uint64_t kAll = ~std::uint64_t{0};

std::uint64_t bit(std::uint32_t slot) { return std::uint64_t{1} << (slot % kWordBits); }

}  // namespace

SlotBitmap::SlotBitmap(std::uint32_t slots)
    : size_(slots), taken_((std::size_t{slots} + kWordBits - 1) / kWordBits, 0) {
  if (slots % kWordBits != 0) taken_.back() = kAll << (slots % kWordBits);
}

std::uint32_t SlotBitmap::next_free(std::uint32_t from) const {
  if (from >= size_) return size_;
  std::size_t word = from / kWordBits;
  std::uint64_t free = ~taken_[word] & (kAll << (from % kWordBits));
  while (free == 0) {
    if (++word == taken_.size()) return size_;
    free = ~taken_[word];
  }
  return static_cast<std::uint32_t>(word * kWordBits) +
         static_cast<std::uint32_t>(std::countr_zero(free));
}

std::uint32_t SlotBitmap::next_taken(std::uint32_t from) const {
  if (from >= size_) return size_;
  std::size_t word = from / kWordBits;
  std::uint64_t taken = taken_[word] & (kAll << (from % kWordBits));
  while (taken == 0) {
    if (++word == taken_.size()) return size_;
    taken = taken_[word];
  }
  return std::min(size_, static_cast<std::uint32_t>(word * kWordBits) +
                             static_cast<std::uint32_t>(std::countr_zero(taken)));
}

SlotRun SlotBitmap::search(std::uint32_t begin, std::uint32_t end, std::uint32_t at_least,
                           std::uint32_t at_most) {
  for (std::uint32_t first = next_free(begin); first < end;) {
    const std::uint32_t stop = next_taken(first);
    if (stop - first >= at_least) {
      const std::uint32_t count = std::min(stop - first, at_most);
      for (std::uint32_t slot = first; slot < first + count; ++slot) {
        taken_[slot / kWordBits] |= bit(slot);
      }
      used_ += count;
      cursor_ = first + count;
      return {first, count};
    }
    first = next_free(stop);
  }
  return {};
}

SlotRun SlotBitmap::search_round(std::uint32_t at_least, std::uint32_t at_most) {
  if (at_most == 0 || free() < at_least) return {};
  const std::uint32_t cursor = cursor_;
  SlotRun run = search(cursor, size_, at_least, at_most);
  if (run.count == 0) run = search(0, cursor, at_least, at_most);
  return run;
}

SlotRun SlotBitmap::take_run(std::uint32_t want) { return search_round(want, want); }

SlotRun SlotBitmap::take_some(std::uint32_t want) { return search_round(1, want); }

bool SlotBitmap::taken(std::uint32_t slot) const {
  return slot < size_ && (taken_[slot / kWordBits] & bit(slot)) != 0;
}

bool SlotBitmap::take(std::uint32_t slot) {
  if (slot >= size_ || taken(slot)) return false;
  taken_[slot / kWordBits] |= bit(slot);
  ++used_;
  return true;
}

bool SlotBitmap::release(std::uint32_t slot) {
  if (!taken(slot)) return false;
  taken_[slot / kWordBits] &= ~bit(slot);
  --used_;
  return true;
}

}  // namespace kvfs::tiers
