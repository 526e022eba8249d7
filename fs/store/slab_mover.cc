#include "fs/store/slab_mover.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

#include "fs/store/namespace_registry.h"
#include "fs/store/slab_registry.h"

namespace kvfs::store {

bool SlabMover::take_any(const NamespaceState& needy, std::uint32_t group) {
  return take(needy, group, std::numeric_limits<double>::infinity());
}

bool SlabMover::take_less_valuable(const NamespaceState& needy, std::uint32_t group) {
  double sum = 0;
  std::size_t blocks = 0;
  {
    const MutexLock lock(needy.mutex);
    const std::uint32_t now = wall_seconds();
    for (const BlockId id : needy.catalog->resident(group)) {
      sum += needy.value(id, group, now);
      ++blocks;
    }
  }
  return blocks != 0 && take(needy, group, sum / static_cast<double>(blocks) / 2);
}

bool SlabMover::take(const NamespaceState& needy, std::uint32_t group, double below) {
  if (remove_retired()) return true;
  std::optional<Choice> choice;
  {
    const MutexLock choosing(choosing_);
    choice = choose(needy.owner(group), may_take_opened());
    if (!choice || choice->mean_value >= below) return false;
    if (!services_.dram->retire(choice->slab.id)) return false;
  }
  return finish_move(choice->slab, needy);
}

bool SlabMover::take_empty(const NamespaceState& needy, std::uint32_t group) {
  std::optional<tiers::SlabView> slab;
  {
    const MutexLock choosing(choosing_);
    slab = services_.dram->retire_empty(needy.owner(group), may_take_opened());
  }
  return slab && finish_move(*slab, needy);
}

bool SlabMover::may_take_opened() const { return waiting_for_clients() == 0; }

bool SlabMover::finish_move(const tiers::SlabView& slab, const NamespaceState& needy) {
  spdlog::info("DRAM slab {} moves from namespace {} to namespace {}", slab.id,
               slab.owner.namespace_id, needy.id);
  empty(slab);
  return remove_retired();
}

bool SlabMover::may_leave(const NamespaceState& state, BlockId id,
                          std::uint32_t group) const NO_THREAD_SAFETY_ANALYSIS {
  if (!state.movable(id, group) || state.catalog->node(id).leases != 0) return false;
  const Placement& placement = state.catalog->placement(id, group);
  return placement.nvme.valid() || services_.nvme == nullptr;
}

// The slab whose blocks are worth least per byte, of those that nothing holds; of several one that
// no client has open.
std::optional<SlabMover::Choice> SlabMover::choose(tiers::SlabOwner needy, bool opened_too) const {
  std::unordered_map<tiers::SlabId, Worth> worth;
  const std::uint32_t now = wall_seconds();
  for (const NamespacePtr& state : services_.registry->states()) {
    const MutexLock lock(state->mutex);
    for (std::uint32_t group = 0; group < state->groups; ++group) {
      for (const BlockId id : state->catalog->resident(group)) {
        Worth& of_slab = worth[state->catalog->placement(id, group).dram.slab];
        of_slab.value += state->value(id, group, now);
        ++of_slab.blocks;
        if (!may_leave(*state, id, group)) ++of_slab.kept;
      }
    }
  }
  std::optional<Choice> best;
  for (const tiers::SlabView& slab : services_.dram->slabs()) {
    if (slab.retiring || slab.owner == needy) continue;
    const Worth of_slab = worth[slab.id];
    // More slots used than blocks: some are reserved or in quarantine, and would keep the slab.
    if (of_slab.kept != 0 || slab.used > of_slab.blocks) continue;
    if (slab.opens != 0 && !opened_too) continue;
    const double mean = of_slab.blocks == 0 ? 0 : of_slab.value / of_slab.blocks;
    if (!best ||
        std::pair(mean, slab.opens != 0) < std::pair(best->mean_value, best->slab.opens != 0)) {
      best = Choice{slab, mean};
    }
  }
  return best;
}

void SlabMover::empty(const tiers::SlabView& slab) {
  NamespacePtr state;
  for (const NamespacePtr& one : services_.registry->states()) {
    if (one->id == slab.owner.namespace_id) state = one;
  }
  if (state == nullptr) return;
  Removal removal;
  {
    const MutexLock lock(state->mutex);
    const std::uint32_t group = slab.owner.group;
    std::vector<BlockId> inside;
    for (const BlockId id : state->catalog->resident(group)) {
      if (state->catalog->placement(id, group).dram.slab == slab.id) inside.push_back(id);
    }
    for (const BlockId id : inside) {
      // An earlier one may have taken this one with it.
      if (!state->live(id) || !may_leave(*state, id, group)) continue;
      if (state->catalog->placement(id, group).nvme.valid()) {
        removal.dram.push_back(state->clear_dram(id, group));
        state->metrics.evicted_slab_moved.add();
      } else {
        state->metrics.evicted_slab_moved.add(state->remove_with_followers({&id, 1}, removal));
      }
    }
    state->catalog->announce_retired_slab();
  }
  dispose(*state, std::move(removal));
}

bool SlabMover::remove(const tiers::SlabView& slab) {
  if (services_.slab_registry != nullptr) services_.slab_registry->forget(slab);
  auto removed = services_.dram->remove(slab.id);
  if (!removed) {
    // Busy or removed by another thread: nothing to say.
    if (removed.error().code == Code::kIo) spdlog::warn("{}", removed.error().message);
    return false;
  }
  if (services_.listener != nullptr) {
    services_.listener->on_slab_removed(slab.owner.namespace_id, slab.id);
  }
  return true;
}

bool SlabMover::remove_retired() {
  bool any = false;
  for (const tiers::SlabView& slab : services_.dram->slabs()) {
    if (!slab.retiring) continue;
    if (slab.used != 0) empty(slab);
    const auto now = services_.dram->slab(slab.id);
    if (now && now->used == 0 && now->opens == 0) any = remove(slab) || any;
  }
  return any;
}

void SlabMover::retire_all(const NamespaceState& state) {
  for (const tiers::SlabView& slab : services_.dram->slabs()) {
    if (slab.owner.namespace_id == state.id) {
      ignore_error(services_.dram->retire(slab.id), "it is gone already");
    }
  }
  remove_retired();
}

std::uint64_t SlabMover::waiting_for_clients() const {
  std::uint64_t bytes = 0;
  for (const tiers::SlabView& slab : services_.dram->slabs()) {
    if (slab.retiring && slab.opens != 0) bytes += slab.bytes;
  }
  return bytes;
}

}  // namespace kvfs::store
