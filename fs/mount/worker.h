// Worker: a few threads that run jobs in the order they were posted.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "fs/mutex.h"

namespace kvfs::mount {

// Threads: post() from any thread, also from a job.
// Owns:    its threads and the jobs that have not run.
// Blocks:  stop(), for the jobs that were posted (the first call; a second returns at once).
// Errors:  post() after stop() destroys the job unrun.
class Worker {
 public:
  Worker(std::string name, std::size_t threads);
  ~Worker() { stop(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void post(std::function<void()> job);
  void stop();
  [[nodiscard]] std::size_t queued() const;

 private:
  void run();

  const std::string name_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> jobs_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::mount
