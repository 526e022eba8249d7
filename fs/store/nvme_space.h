// NvmeSpace: slots of the NVMe tier for write-back, making room where there is none.
#pragma once

#include <atomic>
#include <cstdint>

#include "fs/store/namespace_state.h"

namespace kvfs::store {

// Room is made by dropping leaves of all namespaces, least valuable first, a batch at a time; those
// of the wanted slot size first, since segments hold slots of one size; else a whole segment of
// another size is cleared. A slot size that evicts blocks worth more than those of another size's
// segment takes that segment, too. Slots are free only when the journal has forgotten the blocks,
// so this waits for it, and drops nothing more while it fails to.
//
// Threads: all calls from any thread that may wait, with no namespace locked.
// Owns:    nothing; a slot is the caller's until the journal has it or it is freed.
// Blocks:  for journal commits.
// Errors:  kNoSpace when everything is held or pinned, or the journal fails; the tier's own errors.
class NvmeSpace {
 public:
  explicit NvmeSpace(Services& services) : services_(services) {}

  Result<tiers::TierSlot> allocate(NamespaceState& state, std::uint32_t group);
  // Drops least valuable leaves of one namespace until `bytes` of NVMe are or will be free.
  std::uint64_t evict(NamespaceState& state, std::uint64_t bytes, Removal& removal)
      REQUIRES(state.mutex);

 private:
  bool reclaim(std::uint64_t slot_bytes);
  [[nodiscard]] NamespacePtr least_valuable(std::uint64_t slot_bytes) const;
  enum class Take : std::uint8_t { kAny, kLessValuable };
  bool clear_segment(std::uint64_t slot_bytes, Take take);
  [[nodiscard]] bool time_to_look(std::uint64_t freed);
  [[nodiscard]] std::uint64_t batch_bytes(std::uint64_t slot_bytes) const;

  Services& services_;
  // Bytes, since other slot sizes' segments were looked at; of all sizes together.
  std::atomic<std::uint64_t> evicted_since_look_{0};
};

}  // namespace kvfs::store
