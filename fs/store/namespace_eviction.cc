// Evicting on request: by prefix, by bytes, everything.
#include <algorithm>

#include "fs/store/dram_eviction.h"
#include "fs/store/namespace_impl.h"
#include "fs/store/nvme_space.h"

namespace kvfs::store {

Result<Evicted> NamespaceImpl::finish_eviction(Evicted evicted, Removal removal) {
  evicted.blocks += removal.blocks;
  evicted.bytes += removal.bytes;
  Status durable = state_->services.journal->wait(
      [&](Done done) { dispose(*state_, std::move(removal), std::move(done)); });
  if (!durable) return pass(std::move(durable));
  return evicted;
}

// From the tip down: the tip goes although it is named, as a file goes though a symlink names it; a
// named block on the way is somebody else's prefix. What is leased goes from the index at once and
// is freed with its last lease.
Result<Evicted> NamespaceImpl::evict(const Key& key) {
  Evicted evicted;
  Removal removal;
  {
    const MutexLock lock(state_->mutex);
    const BlockId tip = state_->catalog->find(key);
    if (tip == kNoBlock) return tl::unexpected(not_cached(key));
    for (BlockId at = tip; at != kNoBlock;) {
      const Node& node = state_->catalog->node(at);
      const bool shared = node.children != 0;
      const bool named = at != tip && state_->names.any_of(state_->catalog->key(at));
      if (shared || named) {
        evicted.kept_shared = state_->catalog->depth(at) + 1;
        break;
      }
      if (state_->pinned(at)) {
        evicted.kept_pinned = state_->catalog->depth(at) + 1;
        break;
      }
      if (state_->held_by_others(at) != 0) ++evicted.kept_leased;
      const BlockId parent = state_->catalog->parent(at);
      state_->remove(at, removal);
      state_->metrics.evicted_removed.add();
      at = parent;
    }
  }
  return finish_eviction(evicted, std::move(removal));
}

Result<Evicted> NamespaceImpl::evict_bytes(std::string_view tier, std::uint64_t bytes) {
  if (tier != "dram" && tier != "nvme") {
    return fail(Code::kInvalid, "there is no tier '" + std::string(tier) + "': dram or nvme");
  }
  if (tier == "nvme" && state_->services.nvme_space == nullptr) {
    return fail(Code::kInvalid, "this store has no NVMe tier");
  }
  Evicted evicted;
  Removal removal;
  {
    const MutexLock lock(state_->mutex);
    if (tier == "nvme") {
      state_->services.nvme_space->evict(*state_, bytes, removal);
    } else {
      std::uint64_t got = 0;
      for (std::uint32_t g = 0; g < state_->groups && got < bytes; ++g) {
        const std::uint64_t slot = state_->slot_bytes[g];
        const std::uint64_t want = std::min((bytes - got + slot - 1) / slot,
                                            std::uint64_t{state_->catalog->resident(g).size()});
        got += evict_from_dram(*state_, g, want, Unwritten::kMayLeave, removal) * slot;
      }
      // Demoted blocks stay in the index and are not in the removal's own sums.
      const std::uint64_t demoted = got > removal.bytes ? got - removal.bytes : 0;
      evicted.bytes += demoted;
      evicted.blocks +=
          removal.dram.size() > removal.blocks ? removal.dram.size() - removal.blocks : 0;
    }
  }
  return finish_eviction(evicted, std::move(removal));
}

namespace {

// The block and those before it, as far as nothing else follows them and nothing holds them.
void evict_upwards(NamespaceState& state, BlockId at, Evicted& evicted, Removal& removal)
    REQUIRES(state.mutex) {
  while (at != kNoBlock && state.catalog->node(at).children == 0) {
    const bool pinned = state.pinned(at);
    if (pinned || state.held_by_others(at) != 0) {
      (pinned ? evicted.kept_pinned : evicted.kept_leased) +=
          std::uint64_t{state.catalog->depth(at)} + 1;
      return;
    }
    const BlockId parent = state.catalog->parent(at);
    state.remove(at, removal);
    state.metrics.evicted_removed.add();
    at = parent;
  }
}

}  // namespace

Result<Evicted> NamespaceImpl::evict_all() {
  Evicted evicted;
  Removal removal;
  {
    const MutexLock lock(state_->mutex);
    const std::span<const BlockId> leaves = state_->catalog->leaf_list();
    const std::vector<BlockId> before(leaves.begin(), leaves.end());  // removing changes the list
    for (const BlockId leaf : before) evict_upwards(*state_, leaf, evicted, removal);
  }
  return finish_eviction(evicted, std::move(removal));
}

Evicted NamespaceImpl::drop_all() {
  Evicted evicted;
  Removal removal;
  {
    const MutexLock lock(state_->mutex);
    std::vector<BlockId> roots;
    for (BlockId id = 0; id < state_->catalog->high(); ++id) {
      if (state_->live(id) && state_->catalog->parent(id) == kNoBlock) roots.push_back(id);
    }
    state_->metrics.evicted_removed.add(state_->remove_with_followers(roots, removal));
  }
  evicted = {.blocks = removal.blocks, .bytes = removal.bytes};
  dispose(*state_, std::move(removal));
  return evicted;
}

}  // namespace kvfs::store
