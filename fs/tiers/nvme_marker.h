// kvfs-tier.json: which store a directory belongs to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/format/result.h"

namespace kvfs::tiers {

inline constexpr std::string_view kMarkerName = "kvfs-tier.json";

struct NvmeMarker {
  std::string store_id;
  std::uint32_t index = 0;        // of this directory
  std::uint32_t directories = 0;  // of the store
};

// `path` is for sentences only. kNotFound: there is none; kCorrupt, kMismatch (another format
// version).
Result<NvmeMarker> read_nvme_marker(int directory, const std::string& path);
// Durable when it returns; whole or not there at all.
Status write_nvme_marker(int directory, const std::string& path, const NvmeMarker& marker);

}  // namespace kvfs::tiers
