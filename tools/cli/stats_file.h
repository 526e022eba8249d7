// <mount>/.kvfs/stats.json and <mount>/<namespace>/.kvfs/stats.json as the commands use them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "lib/format/result.h"
#include "tools/cli/mount_point.h"

namespace kvfs::cli {

Result<nlohmann::json> read_store_stats(const std::string& mount);
Result<nlohmann::json> read_namespace_stats(const std::string& mount, const std::string& name);

// A number of an object, 0 where it is missing (an older daemon).
std::uint64_t count_of(const nlohmann::json& object, const char* name);
// A text of an object, empty where it is missing or null.
std::string text_of(const nlohmann::json& object, const char* name);

// Bytes of a namespace in one tier.
std::uint64_t tier_bytes(const nlohmann::json& namespace_stats, const char* tier);

// Names of the plain directories.
std::vector<std::string> plain_directory_names(const nlohmann::json& store_stats);

struct TierRow {
  std::string name;
  std::uint64_t capacity, used, blocks, bytes_in, bytes_out, errors, queued;
};
// Tiers that are present, from fast to slow.
std::vector<TierRow> tier_rows(const nlohmann::json& store_stats);

// Of every namespace the caller may see.
Result<std::vector<nlohmann::json>> all_namespace_stats(const std::string& mount);

}  // namespace kvfs::cli
