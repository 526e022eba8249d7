// kvfs doctor: what this machine has for kvfs, what is missing, and how to get it.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "fs/size_text.h"
#include "tools/cli/command.h"
#include "tools/cli/control_client.h"
#include "tools/cli/doctor.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/stats_file.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

struct Options {
  std::string directory;
  std::string dram;
};

// The DRAM tier of the mount there is, if any: doctor also runs before the first one.
std::uint64_t mounted_dram(const Context& context) {
  const Result<std::string> mount = find_mount(context.mount);
  if (!mount) return 0;
  const Result<json> stats = read_store_stats(*mount);
  if (!stats) return 0;
  for (const TierRow& tier : tier_rows(*stats)) {
    if (tier.name == "dram") return tier.capacity;
  }
  return 0;
}

Tint tint_of(Level level) {
  switch (level) {
    case Level::kGood:
      return Tint::kGood;
    case Level::kNote:
      return Tint::kDim;
    case Level::kWarn:
      return Tint::kWarn;
    case Level::kBad:
      return Tint::kBad;
  }
  return Tint::kNone;
}

void show(const Checks& checks, const Terminal& terminal) {
  for (const Check& check : checks) {
    print(fmt::format(
        "{}  {:<18} {}\n",
        terminal.tint(tint_of(check.level), fmt::format("{:<7}", level_name(check.level))),
        check.name, check.found));
    if (!check.remedy.empty()) print(fmt::format("{:<28}-> {}\n", "", check.remedy));
  }
}

json as_json(const Checks& checks, bool good) {
  json out{{"good", good}, {"checks", json::array()}};
  for (const Check& check : checks) {
    out["checks"].push_back(
        {{"name", check.name},
         {"level", level_name(check.level)},
         {"found", check.found},
         {"remedy", check.remedy.empty() ? json(nullptr) : json(check.remedy)}});
  }
  return out;
}

Result<ExitCode> run(const Options& options, const Context& context) {
  std::uint64_t dram = 0;
  if (options.dram.empty()) {
    dram = mounted_dram(context);
  } else {
    Result<std::uint64_t> given = parse_size(options.dram);
    if (!given) return pass(std::move(given));
    dram = *given;
  }
  Checks checks;
  check_kernel(checks);
  check_memory(checks, dram);
  check_disk(checks, options.directory.empty() ? "." : options.directory);
  check_gpu(checks);
  check_programs(checks);
  const bool good = std::ranges::none_of(checks, [](const Check& check) {
    return check.level == Level::kWarn || check.level == Level::kBad;
  });
  if (context.json) {
    print_json(as_json(checks, good));
  } else {
    show(checks, context.terminal);
  }
  return good ? ExitCode::kOk : ExitCode::kNo;
}

}  // namespace

void add_doctor(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      add_command(app, context, "doctor",
                  "What this machine has for kvfs, what is missing, how to get it", UsesMount::kYes,
                  {"kvfs doctor --dir /data --dram 64GiB",
                   "kvfs doctor --json | jq '.checks[] | select(.level != \"good\")'",
                   "Exit code 1: there is a warning or something bad."},
                  [options, &context] { return run(*options, context); });
  command
      ->add_option("--dir", options->directory, "The NVMe tier's directory to be (default: here)")
      ->type_name("DIR");
  command->add_option("--dram", options->dram, "The DRAM tier to be (default: the mount's)")
      ->type_name("SIZE");
}

}  // namespace kvfs::cli
