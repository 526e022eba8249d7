// SlabRegistry: tells the NVMe tier about slabs before I/O from or into them, so that it can
// register their memory with the kernel once instead of pinning pages for every request.
#pragma once

#include <unordered_set>

#include "fs/mutex.h"
#include "fs/tiers/block_tier.h"
#include "fs/tiers/dram_tier.h"

namespace kvfs::store {

// Threads: all calls from any thread.
// Owns:    the list of slabs that are registered.
// Blocks:  as long as the tier takes to register.
// Errors:  none: an unregistered slab is only slower.
class SlabRegistry {
 public:
  SlabRegistry(tiers::DramTier& dram, tiers::BlockTier& nvme) : dram_(dram), nvme_(nvme) {}

  void ensure(tiers::SlabId id) {
    const MutexLock lock(mutex_);
    if (!known_.insert(id).second) return;
    if (const auto slab = dram_.slab(id)) nvme_.register_memory({slab->base, slab->bytes});
  }
  void forget(const tiers::SlabView& slab) {
    const MutexLock lock(mutex_);
    if (known_.erase(slab.id) != 0) nvme_.unregister_memory({slab.base, slab.bytes});
  }

 private:
  tiers::DramTier& dram_;
  tiers::BlockTier& nvme_;
  Mutex mutex_;  // lock order: this -> the tiers'
  std::unordered_set<tiers::SlabId> known_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::store
