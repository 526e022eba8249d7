#include "tools/cli/stats_file.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tools/cli/json_file.h"

namespace kvfs::cli {

using nlohmann::json;

Result<json> read_store_stats(const std::string& mount) {
  return read_json(mount + "/.kvfs/stats.json");
}

Result<json> read_namespace_stats(const std::string& mount, const std::string& name) {
  return read_json(fmt::format("{}/{}/.kvfs/stats.json", mount, name));
}

std::uint64_t count_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number() ? found->get<std::uint64_t>() : 0;
}

std::string text_of(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::uint64_t tier_bytes(const json& namespace_stats, const char* tier) {
  const auto tiers = namespace_stats.find("tiers");
  if (tiers == namespace_stats.end() || !tiers->contains(tier)) return 0;
  return count_of((*tiers)[tier], "bytes");
}

std::vector<std::string> plain_directory_names(const json& store_stats) {
  std::vector<std::string> names;
  const auto plain = store_stats.find("plain");
  if (plain == store_stats.end() || !plain->is_object()) return names;
  for (const json& directory : plain->value("directories", json::array()))
    names.push_back(directory.value("name", ""));
  return names;
}

std::vector<TierRow> tier_rows(const json& store_stats) {
  std::vector<TierRow> rows;
  const auto tiers = store_stats.find("tiers");
  if (tiers == store_stats.end()) return rows;
  for (const char* name : {"gpu", "dram", "nvme", "object"}) {
    const auto tier = tiers->find(name);
    if (tier == tiers->end()) continue;
    rows.push_back({.name = name,
                    .capacity = count_of(*tier, "capacity"),
                    .used = count_of(*tier, "used"),
                    .blocks = count_of(*tier, "blocks"),
                    .bytes_in = count_of(*tier, "bytes_in"),
                    .bytes_out = count_of(*tier, "bytes_out"),
                    .errors = count_of(*tier, "errors"),
                    .queued = count_of(*tier, "queued")});
  }
  return rows;
}

Result<std::vector<json>> all_namespace_stats(const std::string& mount) {
  Result<std::vector<std::string>> names = namespace_names(mount);
  if (!names) return pass(std::move(names));
  std::vector<json> all;
  for (const std::string& name : *names) {
    Result<json> stats = read_namespace_stats(mount, name);
    // Removed since it was listed.
    if (!stats && stats.error().code == Code::kNotFound) continue;
    if (!stats) return pass(std::move(stats));
    (*stats)["name"] = name;
    all.push_back(std::move(*stats));
  }
  return all;
}

}  // namespace kvfs::cli
