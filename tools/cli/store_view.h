// One screen of what a store is and does: `kvfs status`, and, with rates, `kvfs top`.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/format/result.h"
#include "tools/cli/terminal.h"

namespace kvfs::cli {

struct Snapshot {
  std::string mount;
  std::chrono::steady_clock::time_point taken;
  nlohmann::json store;
  std::vector<nlohmann::json> namespaces;
};

Result<Snapshot> take_snapshot(const std::string& mount);

// Share of the asked-for blocks that were cached; "-" when nothing was asked for.
std::string hit_rate(const nlohmann::json& namespace_stats);

std::string render_status(const Snapshot& now, const Terminal& terminal);
// Rates are those between `before` and `now`.
std::string render_top(const Snapshot& before, const Snapshot& now, const Terminal& terminal);

}  // namespace kvfs::cli
