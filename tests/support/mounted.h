// A kvfsd of a test's own and what tests say to it.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/temp_directory.h"

namespace kvfs::test {

// A kvfsd process on a temporary directory: its mount, its store, its log.
class DaemonProcess {
 public:
  struct Options {
    std::string dram = "64MiB";
    std::string nvme = "128MiB";      // empty: none
    std::string nvme_directory = {};  // default: one of its own
    std::vector<std::string> more;
  };
  explicit DaemonProcess(Options options);
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  void start();        // waits until it serves
  void stop();         // SIGTERM, waits
  void freeze();       // SIGSTOP, until kill()
  void kill();         // SIGKILL, waits
  void lose_memory();  // after kill(): what a power cut leaves is on NVMe only
  [[nodiscard]] std::string mount() const { return directory_.file("mount"); }
  [[nodiscard]] std::string log() const;
  // A namespace's or the store's stats.json.
  [[nodiscard]] std::string read(const std::string& path) const;

 private:
  // What a daemon that did not end by itself leaves mounted.
  struct Unmounter {
    std::string below;
    ~Unmounter();
  };
  void end(int signal);
  [[nodiscard]] bool serving() const;
  Options options_;
  TempDirectory directory_;
  Unmounter unmounter_{directory_.path().string()};
  pid_t pid_ = -1;
};

// Skips where this machine lets nobody mount.
class Mounted : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  virtual DaemonProcess::Options options() const { return {}; }
  [[nodiscard]] DaemonProcess& daemon() { return *daemon_; }
  [[nodiscard]] std::string mount() const { return daemon_->mount(); }

 private:
  std::unique_ptr<DaemonProcess> daemon_;
};

// Asks `condition` again and again until it holds or `seconds` have passed.
bool eventually(const std::function<bool()>& condition, double seconds = 10);

}  // namespace kvfs::test
