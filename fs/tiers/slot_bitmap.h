// Which slots of a slab or segment are taken.
#pragma once

#include <cstdint>
#include <vector>

namespace kvfs::tiers {

struct SlotRun {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};

// Hands out adjacent slots where it can, so that the transfers of a prefix's blocks merge. A cursor
// goes round: slots freed behind it have time to grow into runs before they are used again.
//
// Threads: none of its own; the owner locks.
// Owns:    nothing but its bits.
// Blocks:  never. Errors: an empty run, or false.
class SlotBitmap {
 public:
  explicit SlotBitmap(std::uint32_t slots);

  // The next run of exactly `want` free slots; empty if there is none.
  SlotRun take_run(std::uint32_t want);
  // The next free slots, at most `want` adjacent ones; empty if full.
  SlotRun take_some(std::uint32_t want);
  // This very slot; false if it is taken or out of range.
  bool take(std::uint32_t slot);
  // False if it was not taken.
  bool release(std::uint32_t slot);

  [[nodiscard]] bool taken(std::uint32_t slot) const;
  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] std::uint32_t used() const { return used_; }
  [[nodiscard]] std::uint32_t free() const { return size_ - used_; }

 private:
  [[nodiscard]] std::uint32_t next_free(std::uint32_t from) const;
  [[nodiscard]] std::uint32_t next_taken(std::uint32_t from) const;
  SlotRun search(std::uint32_t begin, std::uint32_t end, std::uint32_t at_least,
                 std::uint32_t at_most);
  SlotRun search_round(std::uint32_t at_least, std::uint32_t at_most);

  std::uint32_t size_;
  std::uint32_t used_ = 0;
  std::uint32_t cursor_ = 0;
  std::vector<std::uint64_t> taken_;  // one bit a slot; bits behind the last slot are set
};

}  // namespace kvfs::tiers
