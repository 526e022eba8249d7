// Which blocks of one namespace leave DRAM, and taking them out of its catalog.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "fs/store/namespace_state.h"

namespace kvfs::store {

// Gives up to `want` DRAM slots of `group` to `removal`: blocks that are on NVMe too lose their
// copy in DRAM; then blocks of a windowed group that no prefix's window needs; then whole leaves
// are dropped, those that wait for write-back only while more of them wait than the backlog allows.
// Never what is held, pinned or in I/O. Returns how many slots of the group were given.
std::size_t evict_from_dram(NamespaceState& state, std::uint32_t group, std::size_t want,
                            Removal& removal) REQUIRES(state.mutex);

// What keeps the blocks of a group in DRAM, for the sentence of a kNoSpace.
struct HeldBack {
  std::uint64_t leased = 0, pinned = 0, dirty = 0, reading = 0, other = 0;
};
HeldBack held_back(const NamespaceState& state, std::uint32_t group) REQUIRES(state.mutex);

}  // namespace kvfs::store
