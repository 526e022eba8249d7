#include "fs/store/nvme_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

#include "fs/store/await.h"
#include "fs/store/eviction_sample.h"
#include "fs/store/namespace_registry.h"

namespace kvfs::store {
namespace {

constexpr std::uint64_t kMaxBatchBytes = 64 << 20;
// What is evicted between two looks at the other slot sizes, each of which goes through all blocks.
constexpr std::uint64_t kMaxBetweenLooks = std::uint64_t{4} << 30;
// Others may take what one reclaim freed.
constexpr int kAttempts = 4;

// The group of the state whose slots have this size; groups when there is none.
std::uint32_t group_of_size(const NamespaceState& state, std::uint64_t slot_bytes) {
  std::uint32_t group = 0;
  while (group < state.groups && state.slot_bytes[group] != slot_bytes) ++group;
  return group;
}

bool on_nvme(const NamespaceState& state, BlockId id) NO_THREAD_SAFETY_ANALYSIS {
  for (std::uint32_t g = 0; g < state.groups; ++g) {
    if (state.catalog->placement(id, g).nvme.valid()) return true;
  }
  return false;
}

// Blocks that are held, and those before them.
std::vector<bool> kept(const NamespaceState& state) NO_THREAD_SAFETY_ANALYSIS {
  std::vector<bool> kept(state.catalog->high());
  for (BlockId id = 0; id < state.catalog->high(); ++id) {
    if (!state.live(id) || state.catalog->node(id).leases == 0) continue;
    for (BlockId at = id; at != kNoBlock && !kept[at]; at = state.catalog->parent(at))
      kept[at] = true;
  }
  return kept;
}

// An error: it is tried again by itself, and until then there is no more room than before.
Status dispose_and_wait(NamespaceState& state, Removal removal) {
  return await([&](Done done) { dispose(state, std::move(removal), std::move(done)); });
}

}  // namespace

Result<tiers::TierSlot> NvmeSpace::allocate(NamespaceState& state, std::uint32_t group) {
  const std::uint64_t slot_bytes = state.slot_bytes[group];
  Result<tiers::TierSlot> slot = services_.nvme->allocate(slot_bytes);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (slot || slot.error().code != Code::kNoSpace || !reclaim(slot_bytes)) break;
    slot = services_.nvme->allocate(slot_bytes);
  }
  return slot;
}

std::uint64_t NvmeSpace::batch_bytes(std::uint64_t slot_bytes) const {
  const std::uint64_t part = services_.nvme->usage().capacity / 64;
  return std::max(slot_bytes, std::min(part, kMaxBatchBytes));
}

std::uint64_t NvmeSpace::evict(NamespaceState& state, std::uint64_t bytes,
                               Removal& removal) NO_THREAD_SAFETY_ANALYSIS {
  const std::uint32_t now = wall_seconds();
  return evict_lowest(
      bytes, [&]() NO_THREAD_SAFETY_ANALYSIS { return state.catalog->leaf_list(); },
      [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS {
        return state.removable(id) && (on_nvme(state, id) || state.nowhere(id));
      },
      [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS { return state.value(id, 0, now); },
      [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS {
        std::uint64_t freed = 0;
        for (std::uint32_t g = 0; g < state.groups; ++g) {
          if (state.catalog->placement(id, g).nvme.valid()) freed += state.slot_bytes[g];
        }
        state.metrics.evicted_capacity.add(state.evict_leaf(id, removal));
        return freed;
      });
}

// While the journal cannot forget what has left, nothing more leaves: it would all be lost for no
// room.
bool NvmeSpace::reclaim(std::uint64_t slot_bytes) {
  if (services_.unforgotten != 0) return false;
  const NamespacePtr state = least_valuable(slot_bytes);
  if (state == nullptr) return clear_segment(slot_bytes, Take::kAny);
  Removal removal;
  std::uint64_t freed = 0;
  {
    const MutexLock lock(state->mutex);
    freed = evict(*state, batch_bytes(slot_bytes), removal);
  }
  if (!dispose_and_wait(*state, std::move(removal))) return false;
  if (time_to_look(freed)) clear_segment(slot_bytes, Take::kLessValuable);
  return freed != 0 || clear_segment(slot_bytes, Take::kAny);
}

bool NvmeSpace::time_to_look(std::uint64_t freed) {
  const std::uint64_t between = std::min(services_.nvme->usage().capacity / 16, kMaxBetweenLooks);
  if (evicted_since_look_.fetch_add(freed) + freed < between) return false;
  evicted_since_look_ = 0;
  return true;
}

NamespacePtr NvmeSpace::least_valuable(std::uint64_t slot_bytes) const {
  NamespacePtr best;
  double lowest = std::numeric_limits<double>::infinity();
  const std::uint32_t now = wall_seconds();
  for (const NamespacePtr& state : services_.registry->states()) {
    const std::uint32_t group = group_of_size(*state, slot_bytes);
    if (group == state->groups) continue;
    const MutexLock lock(state->mutex);
    const auto eligible = [&](BlockId id) NO_THREAD_SAFETY_ANALYSIS {
      return state->removable(id) && state->catalog->placement(id, group).nvme.valid();
    };
    const auto value = [&](BlockId id)
                           NO_THREAD_SAFETY_ANALYSIS { return state->value(id, group, now); };
    auto found = sample(state->catalog->leaf_list(), false, eligible, value);
    if (found.empty()) found = sample(state->catalog->leaf_list(), true, eligible, value);
    if (found.empty() || found.front().value >= lowest) continue;
    lowest = found.front().value;
    best = state;
  }
  return best;
}

// The segment of another slot size whose blocks are worth least, of those that nothing holds, with
// all that follows its blocks. Less valuable: half of what the blocks of the wanted size are worth,
// or segments would go to and fro.
bool NvmeSpace::clear_segment(std::uint64_t slot_bytes, Take take) {
  struct Worth {
    double value = 0;
    std::uint32_t blocks = 0;
    bool kept = false;
  };
  std::map<std::uint32_t, Worth> worth;
  Worth own;
  const std::uint32_t now = wall_seconds();
  const auto each_block = [&](NamespaceState& state, auto use) NO_THREAD_SAFETY_ANALYSIS {
    for (BlockId id = 0; id < state.catalog->high(); ++id) {
      if (!state.live(id)) continue;
      for (std::uint32_t g = 0; g < state.groups; ++g) {
        const tiers::TierSlot slot = state.catalog->placement(id, g).nvme;
        if (slot.valid()) use(id, g, slot.segment);
      }
    }
  };
  const auto states = services_.registry->states();
  for (const NamespacePtr& state : states) {
    const MutexLock lock(state->mutex);
    const std::vector<bool> stays = kept(*state);
    each_block(*state, [&](BlockId id, std::uint32_t group, std::uint32_t segment)
                           NO_THREAD_SAFETY_ANALYSIS {
                             const bool is_own = state->slot_bytes[group] == slot_bytes;
                             Worth& of_segment = is_own ? own : worth[segment];
                             of_segment.value += state->value(id, group, now);
                             ++of_segment.blocks;
                             of_segment.kept = of_segment.kept || stays[id];
                           });
  }
  const auto best = std::ranges::min_element(worth, {}, [](const auto& entry) {
    const Worth& w = entry.second;
    return w.kept ? std::numeric_limits<double>::infinity() : w.value / w.blocks;
  });
  if (best == worth.end() || best->second.kept) return false;
  if (take == Take::kLessValuable &&
      best->second.value / best->second.blocks >= own.value / std::max(own.blocks, 1U) / 2) {
    return false;
  }
  for (const NamespacePtr& state : states) {
    Removal removal;
    {
      const MutexLock lock(state->mutex);
      const std::vector<bool> stays = kept(*state);
      std::vector<BlockId> inside;
      each_block(*state, [&](BlockId id, std::uint32_t, std::uint32_t segment) {
        if (segment == best->first && !stays[id] && (inside.empty() || inside.back() != id)) {
          inside.push_back(id);
        }
      });
      if (inside.empty()) continue;
      state->metrics.evicted_capacity.add(state->remove_with_followers(inside, removal));
    }
    if (!dispose_and_wait(*state, std::move(removal))) return false;
  }
  return true;
}

}  // namespace kvfs::store
