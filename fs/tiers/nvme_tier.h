// The NVMe tier: segment files of 4 KiB-aligned slots on one or more directories.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fs/tiers/block_tier.h"

namespace kvfs::tiers {

struct NvmeDirectory {
  std::string path;
  std::uint64_t capacity = 0;  // bytes, hard
};

struct NvmeOptions {
  std::vector<NvmeDirectory> directories;
  std::uint64_t segment_bytes = 0;  // 0: the smallest directory's capacity / 16 within [64 MiB, 1
                                    // GiB]; never less than one slot
  std::uint32_t queue_depth = 32;   // requests at the device at once, per directory: fewer than the
                                    // blocks that are asked for at once, so that some always wait
  std::uint32_t io_timeout_ms = 10000;
  std::string store_id;  // written to each directory's marker; another store's directory is refused
};

// A directory holds `kvfs-tier.json` (format version, store id, its index among the directories)
// and `segments/<n>.seg`, n = TierSlot::segment (n % directories = the directory's index). Blocks
// of one slot size share segments; consecutive allocations go round the directories (striping). A
// segment that becomes empty is given back to its directory's budget. Refused by open(), each with
// a sentence: a directory without O_DIRECT, one that is not empty and has no marker, one of another
// store or format version, directories given in another number or order (the order is restored by
// marker), too little free space. One thread drives one io_uring per directory (SINGLE_ISSUER,
// DEFER_TASKRUN), with registered files and, where memory was registered, fixed buffers.
Result<std::unique_ptr<BlockTier>> open_nvme_tier(const NvmeOptions& options);

}  // namespace kvfs::tiers
