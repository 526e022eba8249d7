// Services: what the parts of one store share. Made and ended by StoreImpl, in an order that lets
// each part rely on those above it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "fs/store/deadline_timer.h"
#include "fs/store/journal.h"
#include "fs/store/metrics.h"
#include "fs/store/room_waiters.h"
#include "fs/store/store.h"
#include "fs/store/tier_health.h"
#include "fs/tiers/block_tier.h"
#include "fs/tiers/dram_tier.h"
#include "fs/tiers/gpu_tier.h"

namespace kvfs::store {

class NamespaceRegistry;
class DramSpace;
class NvmeSpace;
class SlabMover;
class SlabRegistry;
class WriteBack;
class Promoter;
class GpuPromoter;
class Quarantine;

struct Services {
  StoreOptions options;
  StoreListener* listener = nullptr;  // may be nullptr
  std::uint64_t epoch = 0;

  StoreMetrics metrics;
  // Removals that the journal has failed to write and tries again: they make no room until it has.
  std::atomic<std::uint32_t> unforgotten{0};
  TierHealth nvme_reads{"reading from NVMe", "what is there stays there"};
  // As long as write-back, which has many under way at once, takes for several attempts.
  TierHealth nvme_writes{"writing to NVMe", "what is stored stays in DRAM",
                         std::chrono::milliseconds(500)};
  TierHealth nvme_records{"recording what is on NVMe", "what is stored stays in DRAM",
                          std::chrono::milliseconds(5000)};  // syncs included
  DeadlineTimer timer;
  RoomWaiters room_waiters{timer};
  std::unique_ptr<Journal> journal;
  std::unique_ptr<tiers::DramTier> dram;
  std::unique_ptr<tiers::BlockTier> nvme;  // nullptr: none
  std::unique_ptr<tiers::GpuTier> gpu;     // nullptr: none

  // Owned by StoreImpl.
  NamespaceRegistry* registry = nullptr;
  DramSpace* dram_space = nullptr;
  NvmeSpace* nvme_space = nullptr;  // nullptr without an NVMe tier, like the next three
  SlabRegistry* slab_registry = nullptr;
  WriteBack* write_back = nullptr;
  Promoter* promoter = nullptr;
  SlabMover* slab_mover = nullptr;
  GpuPromoter* gpu_promoter = nullptr;  // nullptr without a GPU tier
  Quarantine* quarantine = nullptr;
};

// Seconds since the epoch, as records have them.
std::uint32_t wall_seconds();

}  // namespace kvfs::store
