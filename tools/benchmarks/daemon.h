// A kvfsd of the benchmark's own, on a temporary directory.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "lib/format/result.h"
#include "tools/benchmarks/cleanup.h"

namespace kvfs::bench {

struct DaemonOptions {
  std::string directory;  // for the NVMe tier, journal, mount point and log
  std::uint64_t dram = 0;
  std::uint64_t nvme = 0;  // 0: no NVMe tier
  std::string gpu = {};    // N:SIZE; empty: no GPU tier
  bool keep_dram = true;
};

// Threads: one.
// Owns:    the process, its mount and its directories (below DaemonOptions::directory and
// /dev/shm). Blocks:  start() until the daemon is ready, stop() until it has written back. Errors:
// start() has the end of the daemon's log.
class Daemon {
 public:
  static Result<std::unique_ptr<Daemon>> launch(const DaemonOptions& options);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  Status start();
  Status stop();
  [[nodiscard]] const std::string& mount() const { return mount_; }
  [[nodiscard]] const std::string& directory() const { return files_.path(); }
  [[nodiscard]] std::string nvme_directory() const { return files_.path() + "/nvme"; }
  [[nodiscard]] std::string state_directory() const { return files_.path() + "/state"; }

 private:
  Daemon(DaemonOptions options, std::string program);
  Status wait_until_ready(int socket);
  [[nodiscard]] std::string log_tail() const;

  DaemonOptions options_;
  std::string program_;
  TempDirectory files_;
  TempDirectory memory_;  // the DRAM tier's tmpfs
  std::string mount_;
  std::shared_ptr<pid_t> pid_;  // 0: not running; shared with the clean-up function
  Cleanup::Token token_;
};

}  // namespace kvfs::bench
