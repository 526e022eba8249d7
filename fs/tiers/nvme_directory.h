// The directories of an NVMe tier: whose they are, and that they can do what the tier needs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fs/tiers/nvme_tier.h"
#include "fs/unique_fd.h"
#include "lib/format/result.h"

namespace kvfs::tiers {

// Owns: the descriptors; the lock that keeps other daemons out lasts as long as `fd`.
struct OpenNvmeDirectory {
  std::string path;
  std::uint64_t capacity = 0;
  UniqueFd fd;
  UniqueFd segments;
};

// Opens all, in the order of their markers; writes the markers at first use. Everything that
// open_nvme_tier() refuses is refused here, before anything is written.
Result<std::vector<OpenNvmeDirectory>> open_nvme_directories(const NvmeOptions& options);

}  // namespace kvfs::tiers
