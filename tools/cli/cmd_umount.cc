// kvfs umount: asks the daemon to write back and end; clears away a mount whose daemon died.
#include <fmt/format.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "tools/cli/command.h"
#include "tools/cli/control_client.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/programs.h"

namespace kvfs::cli {
namespace {

struct Options {
  std::string directory;
  bool drop_dram = false, keep_dram = false;
  double timeout = 120;
};

bool is_mounted(const std::string& mount) {
  const std::vector<std::string> mounts = kvfs_mounts();
  return std::ranges::find(mounts, mount) != mounts.end();
}

Result<std::string> mount_to_end(const Options& options, const Context& context) {
  const std::string given = options.directory.empty() ? context.mount : options.directory;
  Result<std::string> mount = find_mount(given);
  if (mount || mount.error().code != Code::kUnavailable) return mount;
  // Dead: its name is all that is left. find_mount() took it from the same places.
  if (!given.empty()) return spelled_as_mounted(given);
  const std::vector<std::string> mounts = kvfs_mounts();
  return mounts.size() == 1 ? Result<std::string>(mounts.front()) : mount;
}

// Lazily: whoever still has files of it open keeps his errors, the path is free.
Status detach(const std::string& mount) {
  if (::umount2(mount.c_str(), MNT_DETACH) == 0) return {};
  if (errno != EPERM) return fail_errno(errno, fmt::format("unmounting {}", mount));
  Result<std::string> helper = find_program("fusermount3");
  if (!helper) return pass(std::move(helper));
  Result<int> status = run_program(*helper, {"-u", "-z", mount});
  if (!status) return pass(std::move(status));
  if (*status == 0) return {};
  return fail(
      Code::kPermission,
      fmt::format("{} may not be unmounted by this user: run kvfs umount as its owner", mount));
}

Status ask_to_end(const std::string& mount, const Options& options) {
  Result<ControlClient> control = ControlClient::open_store(mount);
  if (!control) return pass(std::move(control));
  nlohmann::json request{{"op", "shutdown"}};
  if (options.drop_dram) request["drop_dram"] = true;
  if (options.keep_dram) request["drop_dram"] = false;
  if (Result<nlohmann::json> answer = control->call(request); !answer)
    return pass(std::move(answer));
  return {};
}

Status wait_until_gone(const std::string& mount, double timeout) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout);
  while (is_mounted(mount)) {
    if (std::chrono::steady_clock::now() > deadline) {
      return fail(Code::kTimeout,
                  fmt::format("{} is still mounted after {} s: it is still writing back, or "
                              "files of it are open (fuser -m {})",
                              mount, timeout, mount));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return {};
}

Result<ExitCode> run(const Options& options, const Context& context) {
  if (options.drop_dram && options.keep_dram) {
    return fail(Code::kInvalid, "--drop-dram and --keep-dram were both given: choose one");
  }
  Result<std::string> mount = mount_to_end(options, context);
  if (!mount) return pass(std::move(mount));
  Status asked = ask_to_end(*mount, options);
  const bool dead = !asked && asked.error().code == Code::kUnavailable;
  if (!asked && !dead) return pass(std::move(asked));
  if (Status status = dead ? detach(*mount) : wait_until_gone(*mount, options.timeout); !status)
    return pass(std::move(status));
  if (context.json) {
    print_json({{"mount", *mount}, {"daemon_was_dead", dead}});
  } else {
    print(fmt::format("{} unmounted{}\n", *mount, dead ? "; its daemon was dead" : ""));
  }
  return ExitCode::kOk;
}

}  // namespace

void add_umount(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_command(
      app, context, "umount", "Write back, end the daemon, unmount; or clear away a dead mount",
      UsesMount::kYes,
      {"kvfs umount /kv",
       "kvfs umount /kv --drop-dram   # give the memory back: the next mount reads from NVMe"},
      [options, &context] { return run(*options, context); });
  command->add_option("DIR", options->directory, "The mount point");
  command->add_flag("--drop-dram", options->drop_dram, "Free the DRAM tier");
  command->add_flag("--keep-dram", options->keep_dram, "Leave the DRAM tier for the next daemon");
  command->add_option("--timeout", options->timeout, "Seconds to wait (default 120)")
      ->type_name("S");
}

}  // namespace kvfs::cli
