#include "fs/store/dram_eviction.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "fs/store/eviction_sample.h"

namespace kvfs::store {
namespace {

// One namespace and group for the length of an eviction.
class Eviction {
 public:
  Eviction(NamespaceState& state, std::uint32_t group, Unwritten unwritten, Removal& removal)
      : state_(state),
        group_(group),
        unwritten_(unwritten),
        removal_(removal),
        now_(wall_seconds()) {}

  // NO_THREAD_SAFETY_ANALYSIS: evict_from_dram(), the only user, holds the mutex; the analysis does
  // not follow it into lambdas.
  std::size_t demote(std::size_t want) NO_THREAD_SAFETY_ANALYSIS {
    return until_enough(
        want, [&]() NO_THREAD_SAFETY_ANALYSIS { return state_.catalog->resident(group_); },
        [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS {
          const Placement& placement = state_.catalog->placement(id, group_);
          return placement.nvme.valid() && (placement.flags & kDirty) == 0 &&
                 state_.movable(id, group_);
        },
        [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS {
          removal_.dram.push_back(state_.clear_dram(id, group_));
          state_.metrics.evicted_demoted.add();
          return std::uint64_t{1};
        });
  }

  std::size_t drop_outside_windows(std::size_t want) NO_THREAD_SAFETY_ANALYSIS {
    const std::uint32_t window = state_.geometry.window_blocks(group_);
    if (window == 0 || want == 0) return 0;
    std::vector<bool> needed(state_.catalog->high());
    for (const BlockId leaf : state_.catalog->leaf_list()) {
      BlockId at = leaf;
      for (std::uint32_t i = 0; i < window && at != kNoBlock;
           ++i, at = state_.catalog->parent(at)) {
        needed[at] = true;
      }
    }
    return until_enough(
        want, [&]() NO_THREAD_SAFETY_ANALYSIS { return state_.catalog->resident(group_); },
        [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS {
          return !needed[id] && state_.live(id) && state_.movable(id, group_) && may_lose(id);
        },
        [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS {
          removal_.dram.push_back(state_.clear_dram(id, group_));
          if (!state_.dirty_anywhere(id)) state_.finish_flush_waiters(id, {}, removal_);
          lost().add();
          return std::uint64_t{1};
        });
  }

  std::size_t drop_leaves(std::size_t want) NO_THREAD_SAFETY_ANALYSIS {
    return until_enough(
        want, [&]() NO_THREAD_SAFETY_ANALYSIS { return state_.catalog->leaf_list(); },
        [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS { return state_.removable(id) && may_lose(id); },
        [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS { return drop_leaf(id); });
  }

 private:
  template <typename List, typename Eligible, typename Evict>
  std::size_t until_enough(std::size_t want, List list, Eligible eligible, Evict evict) {
    return evict_lowest(
        want, list, eligible,
        [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS { return state_.value(id, group_, now_); },
        evict);
  }

  // Without another copy: only what never goes to NVMe, or what is beyond the backlog.
  bool may_lose(BlockId id) NO_THREAD_SAFETY_ANALYSIS {
    if (state_.services.nvme == nullptr) return true;
    return unwritten_ == Unwritten::kMayLeave && beyond_backlog(state_.services) &&
           state_.dirty_anywhere(id);
  }

  // The leaf, which gives a slot of the group unless it has none.
  std::uint64_t drop_leaf(BlockId id) NO_THREAD_SAFETY_ANALYSIS {
    const std::uint64_t slots = state_.catalog->placement(id, group_).dram.valid() ? 1 : 0;
    lost().add(state_.evict_leaf(id, removal_));
    return slots;
  }

  // may_lose() says why it is one or the other.
  Counter& lost() {
    return state_.services.nvme == nullptr ? state_.metrics.evicted_capacity
                                           : state_.metrics.evicted_dirty;
  }

  NamespaceState& state_;
  const std::uint32_t group_;
  const Unwritten unwritten_;
  Removal& removal_;
  const std::uint32_t now_;
};

}  // namespace

bool beyond_backlog(const Services& services) {
  return services.metrics.dirty_bytes.get() > services.options.writeback_backlog;
}

std::size_t evict_from_dram(NamespaceState& state, std::uint32_t group, std::size_t want,
                            Unwritten unwritten, Removal& removal) {
  Eviction eviction(state, group, unwritten, removal);
  std::size_t got = state.services.nvme == nullptr ? 0 : eviction.demote(want);
  if (got < want) got += eviction.drop_outside_windows(want - got);
  if (got < want) got += eviction.drop_leaves(want - got);
  return got;
}

HeldBack held_back(const NamespaceState& state, std::uint32_t group) {
  std::vector<bool> pinned(state.catalog->high());
  for (const BlockId leaf : state.catalog->leaf_list()) {
    bool below_pin = false;
    for (BlockId at = leaf; at != kNoBlock && !pinned[at]; at = state.catalog->parent(at)) {
      below_pin = below_pin || state.pinned(at);
      pinned[at] = below_pin;
    }
  }
  HeldBack held;
  for (const BlockId id : state.catalog->resident(group)) {
    const Placement& placement = state.catalog->placement(id, group);
    if (pinned[id]) {
      ++held.pinned;
    } else if (state.held_by_others(id) != 0) {
      ++held.leased;
    } else if ((placement.flags & kPromoting) != 0) {
      ++held.reading;
    } else if ((placement.flags & kDirty) != 0 || placement.io_pins != 0) {
      ++held.dirty;
    }
  }
  return held;
}

}  // namespace kvfs::store
