// kvfs mount: starts the daemon in the background and returns when the file system is there.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/cli/command.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/programs.h"

namespace kvfs::cli {
namespace {

// A code that ends this command with the daemon's own exit status.
Code code_of(int status) {
  for (const Code code :
       {Code::kInvalid, Code::kUnavailable, Code::kPermission, Code::kBusy, Code::kTimeout}) {
    if (status == static_cast<int>(exit_code_of(code))) return code;
  }
  return Code::kIo;
}

// The daemon's own words are on standard error already.
tl::unexpected<Error> fail_start(int status, const std::string& directory) {
  return fail(code_of(status),
              fmt::format("{} was not mounted: kvfsd ended with status {}, its reason is above",
                          directory, status));
}

Result<ExitCode> run(std::vector<std::string> arguments, bool foreground, const Context& context) {
  Result<std::string> daemon = find_program("kvfsd");
  if (!daemon) return pass(std::move(daemon));
  // Only the first word is DIR for sure: a later one may be the value of a flag of the daemon's.
  std::string directory;
  if (!arguments.empty() && !arguments.front().starts_with('-')) {
    std::error_code error;
    directory = std::filesystem::absolute(arguments.front()).lexically_normal().string();
    std::filesystem::create_directories(
        directory, error);  // a dead mount's directory is there: the daemon deals with it
    arguments.front() = directory;
  }
  arguments.emplace_back(foreground ? "--background=false" : "--background=true");
  Result<int> status = run_program(*daemon, arguments);
  if (!status) return pass(std::move(status));
  if (*status != 0) return fail_start(*status, directory.empty() ? "the file system" : directory);
  if (context.json) {
    print_json({{"mount", directory.empty() ? nlohmann::json(nullptr) : nlohmann::json(directory)},
                {"ready", !foreground}});
  } else if (!foreground && !directory.empty()) {
    print(fmt::format("mounted on {}\n", directory));
  }
  return ExitCode::kOk;
}

}  // namespace

void add_mount(CLI::App& app, Context& context) {
  auto foreground = std::make_shared<bool>(false);
  auto* command = app.add_subcommand("mount", "Start the daemon and mount");
  command->add_flag("--json", context.json, "Print one JSON object")->group("Common");
  command->add_flag("--foreground", *foreground, "Stay, and log to standard error");
  // The rest goes to kvfsd as it is: one place knows its flags.
  command->allow_extras();
  command->footer(
      "kvfs mount [DIR] [FLAG]...: DIR, the mount point, comes first and is made where it is "
      "missing\n"
      "(default: what --config says); all other flags are those of the daemon (kvfsd --help).\n"
      "Examples:\n"
      "  kvfs mount /kv --dram 64GiB --nvme /data/kvfs:1TiB\n"
      "  kvfs mount --config /etc/kvfs/kvfsd.toml\n"
      "  kvfs mount ~/kv --dram 4GiB --passthrough off    # without root\n");
  command->callback([foreground, command, &context] {
    context.run = [foreground, command, &context] {
      return run(command->remaining(), *foreground, context);
    };
  });
}

}  // namespace kvfs::cli
