#include "fs/mount/config.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "fs/mount/config_keys.h"

namespace kvfs::mount {
namespace {

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) {
    std::string name = "/tmp/kvfs-config-XXXXXX";
    ::close(::mkstemp(name.data()));
    path = name;
    std::ofstream(path) << text;
  }
  ~ConfigFile() { std::filesystem::remove(path); }
  std::string path;
};

Result<ParsedCommand> parse(std::vector<const char*> options) {
  options.insert(options.begin(), "kvfsd");
  return parse_command(static_cast<int>(options.size()), options.data());
}

TEST(Config, EveryKeyReadsBackWhatItWrites) {
  Config config;
  config.mountpoint = "/k\"v";
  config.dram = 8ULL << 30;
  config.nvme = {{"/a", 1ULL << 40}, {"/b with blank", 3ULL << 30}};
  config.passthrough = Passthrough::kOff;
  config.quarantine = std::chrono::milliseconds(1500);
  config.keep_dram = false;
  const ConfigFile file(config_toml(config));
  Config read;
  const Status loaded = load_toml(file.path, read);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(config_toml(read), config_toml(config));
  EXPECT_EQ(read.nvme.at(1).path, "/b with blank");
  EXPECT_EQ(read.nvme.at(1).capacity, 3ULL << 30);
}

TEST(Config, FlagsOverrideTheFile) {
  const ConfigFile file("dram = \"1GiB\"\nthreads = 4\nnvme = [\"/a:1GiB\"]\n");
  const auto command =
      parse({"/kv", "--config", file.path.c_str(), "--dram", "2GiB", "--nvme", "/b:2GiB"});
  ASSERT_TRUE(command) << command.error().message;
  EXPECT_EQ(command->config.mountpoint, "/kv");
  EXPECT_EQ(command->config.dram, 2ULL << 30);
  EXPECT_EQ(command->config.threads, 4U);
  ASSERT_EQ(command->config.nvme.size(), 1U);
  EXPECT_EQ(command->config.nvme[0].path, "/b");
}

TEST(Config, ABareBooleanFlagSaysTrue) {
  EXPECT_TRUE(parse({"/kv", "--background"})->config.background);
  EXPECT_FALSE(parse({"/kv", "--background", "false"})->config.background);
  EXPECT_FALSE(parse({"/kv", "--background", "--foreground"})->config.background);
}

TEST(Config, DirectoriesFollowFromTheFirstTier) {
  Config config;
  config.mountpoint = "/kv";
  config.nvme = {{"/data/kvfs", 1ULL << 40}};
  complete_config(config);
  EXPECT_EQ(config.state_dir, "/data/kvfs.state");
  Config other = config;
  other.state_dir = "/elsewhere";
  other.run_dir.clear();
  complete_config(other);
  EXPECT_NE(other.run_dir, config.run_dir) << "two stores must not share a tmpfs";
}

TEST(Config, ErrorsNameKeyAndValue) {
  Config config;
  config.mountpoint = "/kv";
  config.dram = 64ULL << 20;
  EXPECT_TRUE(check_config(config));
  config.slab = 3ULL << 20;
  const Status status = check_config(config);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "slab: 3MiB is not a multiple of 2MiB");
}

TEST(Config, NamesOfKeysAreUnique) {
  std::set<std::string> flags;
  for (const ConfigKey& key : config_keys())
    EXPECT_TRUE(flags.insert(flag_of(key)).second) << key.name;
  EXPECT_TRUE(flags.contains("--writeback-backlog"));
}

}  // namespace
}  // namespace kvfs::mount
