// DramSpace: slots of the DRAM tier for whoever needs them, making room where there is none.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fs/store/dram_eviction.h"
#include "fs/store/namespace_state.h"

namespace kvfs::store {

// Room is made in the allocating call: first by taking a slab without blocks from another owner,
// then by evicting what the namespace has in slabs of the group, then by taking any slab. A
// namespace that evicts blocks worth more than those of an idle slab elsewhere takes that slab,
// too.
//
// Where only blocks on their way to NVMe could leave, they are waited for; when that was too long,
// those beyond the backlog are dropped.
//
// Threads: all calls from any thread, with no namespace locked.
// Owns:    nothing; slots are the caller's until given to a catalog or freed.
// Blocks:  for as long as looking through a catalog takes; allocate_some() also up to half a second
//          for write-back.
// Errors:  kNoSpace with a sentence that says what holds the tier; kBusy from allocate() as in
//          Reservation::reserve().
class DramSpace {
 public:
  explicit DramSpace(Services& services) : services_(services) {}

  // All of `out` or nothing.
  Status allocate(NamespaceState& state, std::uint32_t group, std::span<tiers::DramSlot> out,
                  Deadline give_up);
  // As many of `out` as can be had; kNoSpace when none.
  Result<std::size_t> allocate_some(NamespaceState& state, std::uint32_t group,
                                    std::span<tiers::DramSlot> out);
  void free(std::span<const tiers::DramSlot> slots);
  // Namespace::provide(); of several groups each gets its share, whole slabs.
  Result<std::uint64_t> provide(NamespaceState& state, std::uint64_t bytes);

 private:
  [[nodiscard]] bool may_wait(Deadline give_up) const;
  Result<std::size_t> take(NamespaceState& state, std::uint32_t group,
                           std::span<tiers::DramSlot> out, Unwritten unwritten);
  std::size_t evict(NamespaceState& state, std::uint32_t group, std::size_t want,
                    Unwritten unwritten);
  bool make_room(NamespaceState& state, std::uint32_t group, std::size_t want, Unwritten unwritten);
  [[nodiscard]] tl::unexpected<Error> no_space(const NamespaceState& state, std::uint32_t group,
                                               std::size_t want) const;

  Services& services_;
  std::atomic<std::uint64_t> evicted_since_look_{
      0};  // bytes, since other owners' slabs were looked at
};

}  // namespace kvfs::store
