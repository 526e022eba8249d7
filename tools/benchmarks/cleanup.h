// What must not be left behind, however the program ends.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace kvfs::bench {

// Threads: any; a thread of its own waits for SIGINT, SIGTERM and SIGHUP, runs what is registered,
//          last first, and ends the process with 128 + signal.
// Owns:    the functions. Each runs once: at run_all(), or when the process is told to end.
// Blocks:  as long as the functions do. Errors: none; the functions say on standard error what
// failed.
class Cleanup {
 public:
  // Blocks the signals in this thread and those it will start: call it first thing in main().
  static Cleanup& instance();

  using Token = std::size_t;
  Token add(std::function<void()> function);
  void run(Token token);
  void run_all();

 private:
  Cleanup();
  void run_registered();  // with mutex_ held
  std::mutex mutex_;
  std::size_t next_ = 0;
  std::vector<std::pair<Token, std::function<void()>>> functions_;  // guarded by mutex_
};

// A directory that is removed with all that is in it.
// Threads: one. Owns: the directory. Blocks: on the file system. Errors: the constructor throws
// where it cannot be made.
class TempDirectory {
 public:
  explicit TempDirectory(const std::string& parent);
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  Cleanup::Token token_;
};

}  // namespace kvfs::bench
