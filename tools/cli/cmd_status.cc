// kvfs status: tiers, namespaces and hit rates on one screen.
#include <nlohmann/json.hpp>

#include "tools/cli/command.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/store_view.h"

namespace kvfs::cli {
namespace {

Result<ExitCode> run(const Context& context) {
  Result<std::string> mount = find_mount(context.mount);
  if (!mount) return pass(std::move(mount));
  Result<Snapshot> now = take_snapshot(*mount);
  if (!now) return pass(std::move(now));
  if (context.json) {
    nlohmann::json out = now->store;
    out["mount"] = *mount;
    out["namespaces"] = now->namespaces;
    print_json(out);
  } else {
    print(render_status(*now, context.terminal));
  }
  return ExitCode::kOk;
}

}  // namespace

void add_status(CLI::App& app, Context& context) {
  add_command(app, context, "status", "Tiers, namespaces and hit rates at a glance",
              UsesMount::kYes,
              {"kvfs status", "kvfs status --mount /kv --json | jq .tiers.dram.used"},
              [&context] { return run(context); });
}

}  // namespace kvfs::cli
