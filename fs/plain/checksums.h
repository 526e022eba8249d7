// Checksums: computes the checksums of files that were closed, behind the close.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <thread>

#include "fs/mutex.h"
#include "fs/plain/open_files.h"

namespace kvfs::plain {

// Threads: all calls from any thread.
// Owns:    one thread, the files that wait, with one descriptor each.
// Blocks:  post() when very many wait: it then does one itself, which must hold no lock. stop(),
//          until the deadline.
// Errors:  a file that is being written again has none, and comes again with its close.
class Checksums {
 public:
  Checksums() = default;
  ~Checksums() { stop(std::chrono::steady_clock::now()); }
  Checksums(const Checksums&) = delete;
  Checksums& operator=(const Checksums&) = delete;

  void start();
  void post(Opened file);
  // Computes what waits, until the deadline. Returns the rest.
  std::deque<Opened> stop(std::chrono::steady_clock::time_point deadline);
  [[nodiscard]] std::size_t queued() const;

 private:
  void run();
  void compute(const Opened& file);

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Opened> files_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool ended_ GUARDED_BY(mutex_) = true;
  std::atomic<bool> out_of_time_{false};
  std::thread thread_;
};

}  // namespace kvfs::plain
