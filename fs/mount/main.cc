#include <cstdio>

#include "fs/exit_code.h"
#include "fs/mount/background.h"
#include "fs/mount/config.h"
#include "fs/mount/daemon.h"

namespace {

int refuse(const kvfs::Error& error) {
  std::fprintf(stderr, "kvfsd: %s\n", error.message.c_str());
  return static_cast<int>(kvfs::ExitCode::kUsage);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace kvfs::mount;
  auto command = parse_command(argc, argv);
  if (!command) return refuse(command.error());
  if (command->exit_early) {
    std::fputs(command->early.text.c_str(), stdout);
    return command->early.status;
  }
  Config& config = command->config;
  complete_config(config);
  if (auto status = check_config(config); !status) return refuse(status.error());
  if (config.check_only) {
    if (auto status = check_machine(config); !status) return refuse(status.error());
    std::fputs(config_toml(config).c_str(), stdout);
    return 0;
  }
  return run_daemon(config, config.background ? Background::fork_to_background() : Background());
}
