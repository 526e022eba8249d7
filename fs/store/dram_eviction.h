// Which blocks of one namespace leave DRAM, and taking them out of its catalog.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "fs/store/namespace_state.h"

namespace kvfs::store {

// What becomes of blocks that wait for write-back. They may leave only while more of them wait than
// the backlog allows.
enum class Unwritten : std::uint8_t { kStay, kMayLeave };

// Gives up to `want` DRAM slots of `group` to `removal`: blocks that are on NVMe too lose their
// copy in DRAM; then blocks of a windowed group that no prefix's window needs; then whole leaves
// are dropped. With an NVMe tier the last two are unwritten blocks that may leave.
// Never what is held, pinned or in I/O. Returns how many slots of the group were given.
std::size_t evict_from_dram(NamespaceState& state, std::uint32_t group, std::size_t want,
                            Unwritten unwritten, Removal& removal) REQUIRES(state.mutex);

// More bytes wait for write-back than the backlog allows.
bool beyond_backlog(const Services& services);

// What keeps the blocks of a group in DRAM, for the sentence of a kNoSpace.
struct HeldBack {
  std::uint64_t leased = 0, pinned = 0, dirty = 0, reading = 0;
};
HeldBack held_back(const NamespaceState& state, std::uint32_t group) REQUIRES(state.mutex);

}  // namespace kvfs::store
