// kvfs version
#include <fmt/format.h>
#include <kvfs/kvfs.h>

#include <nlohmann/json.hpp>

#include "lib/format/index_layout.h"
#include "lib/format/ioctls.h"
#include "tools/cli/command.h"

namespace kvfs::cli {

void add_version(CLI::App& app, Context& context) {
  add_command(
      app, context, "version", "Versions of the command and of the formats it speaks",
      UsesMount::kNo, {"kvfs version", "kvfs version --json"}, [&context]() -> Result<ExitCode> {
        if (context.json) {
          print_json({{"version", kvfs_version()}, {"abi", kAbiVersion}, {"index", kIndexVersion}});
        } else {
          print(fmt::format("kvfs {} (abi {}, index {})\n", kvfs_version(), kAbiVersion,
                            kIndexVersion));
        }
        return ExitCode::kOk;
      });
}

}  // namespace kvfs::cli
