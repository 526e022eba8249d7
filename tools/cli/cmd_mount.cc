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

struct Options {
  std::string directory;
  bool foreground = false;
};

// The daemon's own words are on standard error already; this says what its exit status means.
tl::unexpected<Error> fail_start(int status, const std::string& directory) {
  const Code code = status == 2 ? Code::kInvalid : Code::kIo;
  return fail(code,
              fmt::format("{} was not mounted: kvfsd ended with status {}, its reason is above",
                          directory, status));
}

Result<ExitCode> run(const Options& options, const std::vector<std::string>& flags,
                     const Context& context) {
  Result<std::string> daemon = find_program("kvfsd");
  if (!daemon) return pass(std::move(daemon));
  std::vector<std::string> arguments = flags;
  std::string directory;
  if (!options.directory.empty()) {
    std::error_code error;
    directory = std::filesystem::absolute(options.directory).lexically_normal().string();
    std::filesystem::create_directories(
        directory, error);  // a dead mount's directory is there: the daemon deals with it
    arguments.insert(arguments.end(), {"--mountpoint", directory});
  }
  arguments.emplace_back(options.foreground ? "--background=false" : "--background=true");
  Result<int> status = run_program(*daemon, arguments);
  if (!status) return pass(std::move(status));
  if (*status != 0) return fail_start(*status, directory.empty() ? "the file system" : directory);
  if (context.json) {
    print_json({{"mount", directory.empty() ? nlohmann::json(nullptr) : nlohmann::json(directory)},
                {"ready", !options.foreground}});
  } else if (!options.foreground && !directory.empty()) {
    print(fmt::format("mounted on {}\n", directory));
  }
  return ExitCode::kOk;
}

}  // namespace

void add_mount(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  // The rest goes to kvfsd as it is: one place knows its flags.
  auto* command = app.add_subcommand("mount", "Start the daemon and mount");
  command->add_flag("--json", context.json, "Print one JSON object")->group("Common");
  command->add_option("DIR", options->directory, "The mount point (default: what --config says)");
  command->add_flag("--foreground", options->foreground, "Stay, and log to standard error");
  command->allow_extras();
  command->footer(
      "All other flags are those of the daemon (kvfsd --help). Examples:\n"
      "  kvfs mount /kv --dram 64GiB --nvme /data/kvfs:1TiB\n"
      "  kvfs mount --config /etc/kvfs/kvfsd.toml\n"
      "  kvfs mount ~/kv --dram 4GiB --passthrough off    # without root\n");
  command->callback([options, command, &context] {
    context.run = [options, command, &context] {
      return run(*options, command->remaining(), context);
    };
  });
}

}  // namespace kvfs::cli
