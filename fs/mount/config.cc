#include "fs/mount/config.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <deque>
#include <filesystem>

#include "fs/mount/config_keys.h"
#include "fs/mount/version.h"
#include "lib/format/checksum.h"

namespace kvfs::mount {
namespace {

// What one flag was given; CLI11 keeps a pointer to it.
struct Given {
  const ConfigKey* key;
  std::vector<std::string> values;
  CLI::Option* option = nullptr;
};

void add_flag(CLI::App& app, Given& given) {
  const ConfigKey& key = *given.key;
  const std::string names = key.name == "mountpoint" ? "mountpoint,--mountpoint" : flag_of(key);
  given.option = app.add_option(names, given.values, std::string(key.help));
  given.option->type_name(std::string(key.value))->allow_extra_args(false);
  if (key.type == KeyType::kBool) given.option->expected(0, 1);
  if (key.type != KeyType::kBool) given.option->expected(1);
  given.option->multi_option_policy(key.type == KeyType::kList ? CLI::MultiOptionPolicy::TakeAll
                                                               : CLI::MultiOptionPolicy::TakeLast);
}

Status apply(const Given& given, Config& config) {
  if (given.option->count() == 0) return {};
  std::vector<std::string> values = given.values;
  // A boolean flag alone says true.
  if (given.key->type == KeyType::kBool && (values.empty() || values.front().empty()))
    values = {"true"};
  if (given.key->clear) given.key->clear(config);
  for (const std::string& value : values) {
    if (auto status = given.key->set(config, value); !status) {
      return fail(Code::kInvalid,
                  fmt::format("{}: {}", flag_of(*given.key), status.error().message));
    }
  }
  return {};
}

constexpr const char* kFooter = R"(
Every option is a key of the TOML file as well ('_' for '-'); options win over the file.

Examples:
  kvfsd /kv --dram 8GiB
  kvfsd /kv --dram 64GiB --nvme /data/kvfs:500GiB --background
  kvfsd --config /etc/kvfs/kvfsd.toml --check-config

Exit status: 0 it ended as asked, 2 the configuration is wrong or not possible on this machine, 3
something it needs is missing, 4 not permitted, 5 busy, full or there already with other content, 6
I/O error or corrupt data, 7 timeout. After 2 it does not help to start it again.)";

std::string absolute(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

std::string short_hash(const std::string& text) {
  return fmt::format("{:012x}", block_checksum(std::as_bytes(std::span(text))) & 0xffffffffffffULL);
}

}  // namespace

Result<ParsedCommand> parse_command(int argc, const char* const* argv) {
  ParsedCommand command;
  Config& config = command.config;
  config.allow_other = ::geteuid() == 0;

  CLI::App app("kvfsd: mounts a KV-cache file system", "kvfsd");
  app.footer(kFooter);
  app.set_version_flag("--version", version_text());
  std::string config_file;
  app.add_option("--config", config_file, "a TOML file with any of the keys below")
      ->type_name("FILE");
  app.add_flag("--check-config", config.check_only,
               "check the configuration against this machine, print it and exit");
  bool foreground = false;
  app.add_flag("--foreground", foreground, "the opposite of --background (the default)");
  std::deque<Given> flags;
  for (const ConfigKey& key : config_keys()) {
    flags.push_back({&key, {}});
    add_flag(app, flags.back());
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    std::ostringstream out;
    app.exit(success, out, out);
    command.exit_early = true;
    command.early.text = out.str();
    return command;
  } catch (const CLI::ParseError& error) {
    return fail(Code::kInvalid, fmt::format("{} (kvfsd --help lists the options)", error.what()));
  }
  if (!config_file.empty()) {
    if (auto status = load_toml(config_file, config); !status) return pass(std::move(status));
  }
  for (const Given& given : flags) {
    if (auto status = apply(given, config); !status) return pass(std::move(status));
  }
  if (foreground) config.background = false;
  return command;
}

void complete_config(Config& config) {
  config.mountpoint = absolute(config.mountpoint);
  config.state_dir = absolute(config.state_dir);
  config.run_dir = absolute(config.run_dir);
  config.plain_dir = absolute(config.plain_dir);
  config.log_file = absolute(config.log_file);
  for (auto& directory : config.nvme) directory.path = absolute(directory.path);
  if (config.state_dir.empty() && !config.nvme.empty())
    config.state_dir = config.nvme.front().path + ".state";
  if (config.plain_dir.empty() && !config.nvme.empty())
    config.plain_dir = config.nvme.front().path + ".plain";
  if (!config.plain_dir.empty() && config.plain_quota == 0) {
    for (const auto& directory : config.nvme) config.plain_quota += directory.capacity / 10;
  }
  if (config.run_dir.empty()) {
    const std::string id =
        short_hash(config.state_dir.empty() ? config.mountpoint : config.state_dir);
    config.run_dir =
        ::geteuid() == 0 ? "/run/kvfs/" + id : fmt::format("/dev/shm/kvfs-{}-{}", ::geteuid(), id);
  }
  if (config.state_dir.empty()) config.state_dir = config.run_dir;
  if (config.background && config.log_file.empty()) config.log_file = config.run_dir + ".log";
}

}  // namespace kvfs::mount
