// Removal: what was taken out of a catalog under its lock and is to be dealt with after it.
#pragma once

#include <cstdint>
#include <vector>

#include "fs/store/journal_database.h"
#include "fs/store/waiter.h"
#include "fs/tiers/block_tier.h"
#include "fs/tiers/dram_tier.h"
#include "fs/tiers/gpu_tier.h"

namespace kvfs::store {

struct Removal {
  std::vector<Key> keys;                  // not in the index any more: the listener is told
  std::vector<tiers::DramSlot> dram;      // free at once
  std::vector<tiers::GpuSlot> gpu;        // free at once
  std::vector<tiers::TierSlot> nvme_now;  // free at once: the journal never named them
  std::vector<JournalOp> ops;             // what the journal is to forget or to change first ...
  std::vector<tiers::TierSlot> nvme;      // ... before these slots are free
  std::vector<BlockId> ids;               // ... and these ids may be used again
  std::vector<Finished> finished;         // waiters to be told
  std::uint64_t blocks = 0;               // that left the index
  std::uint64_t bytes = 0;                // of slots that are or will be free

  [[nodiscard]] bool empty() const {
    return keys.empty() && dram.empty() && gpu.empty() && nvme_now.empty() && ops.empty() &&
           nvme.empty() && ids.empty() && finished.empty();
  }
};

}  // namespace kvfs::store
