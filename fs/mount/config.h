// What the daemon can be told, in a TOML file and by flags (config_keys.cc has one entry for each).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "fs/tiers/nvme_tier.h"
#include "lib/format/result.h"

namespace kvfs::mount {

enum class Passthrough : std::uint8_t { kAuto, kOn, kOff };

struct Config {
  std::string mountpoint;

  // Tiers.
  std::uint64_t gpu = 0;  // 0: none
  int gpu_ordinal = 0;    // -1: host memory stands in for a GPU's
  std::uint64_t gpu_reserve = 1ULL << 30;
  std::uint64_t dram = 0;
  std::uint64_t slab = 0;  // 0: chosen from dram
  std::vector<tiers::NvmeDirectory> nvme;
  std::uint64_t segment = 0;  // 0: chosen from the smallest directory
  std::uint32_t nvme_queue_depth = 32;
  std::chrono::milliseconds nvme_timeout{10000};
  std::uint32_t promote_depth = 64;
  std::uint64_t writeback_backlog = 0;  // 0: half of dram
  std::chrono::milliseconds quarantine{2000};
  bool keep_dram = true;  // at the end, for the next daemon
  bool pretouch = true;

  // Plain directories.
  std::string plain_dir;          // empty: <first NVMe directory>.plain; none without one
  std::uint64_t plain_quota = 0;  // 0: a tenth of the NVMe tier

  // Places.
  std::string state_dir;  // empty: <first NVMe directory>.state, or run_dir without one
  std::string run_dir;    // empty: /run/kvfs/<hash of state_dir> or below /dev/shm

  // The mount.
  bool allow_other = false;
  Passthrough passthrough = Passthrough::kAuto;
  std::uint32_t threads = 16;
  bool uring = false;
  std::uint64_t max_read = 1ULL << 20;
  std::uint64_t readahead = 4ULL << 20;
  bool raise_max_pages = false;
  std::chrono::milliseconds entry_timeout{3600000};
  std::chrono::milliseconds attr_timeout{1000};
  std::chrono::milliseconds read_timeout{30000};      // read(2) of what is not in DRAM
  std::chrono::milliseconds store_timeout{10000};     // RESERVE while DRAM waits for write-back
  std::chrono::milliseconds flush_timeout{300000};    // fsync(2), control `flush`
  std::chrono::milliseconds shutdown_timeout{60000};  // write-back at the end

  // The process.
  bool background = false;
  std::string log_level = "info";
  std::string log_file;  // empty: standard error, or <run_dir>.log in the background

  bool check_only = false;  // --check-config
};

// A command line that ends without a daemon: --help, --version.
struct EarlyExit {
  int status = 0;
  std::string text;
};

struct ParsedCommand {
  Config config;
  bool exit_early = false;
  EarlyExit early;
};

// Reads --config FILE first, then lets the flags override it. Every error names key, value, remedy.
Result<ParsedCommand> parse_command(int argc, const char* const* argv);
Status load_toml(const std::string& path, Config& config);

// Checks that need no look at the machine: required keys, ranges, combinations.
Status check_config(const Config& config);
// dram against the machine's memory, NVMe sizes against their file systems.
Status check_machine(const Config& config);
// Fills state_dir, run_dir and allow_other where they were left open; makes paths absolute.
void complete_config(Config& config);

// The effective configuration, for .kvfs/config.toml.
std::string config_toml(const Config& config);

}  // namespace kvfs::mount
