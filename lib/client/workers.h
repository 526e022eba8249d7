// Workers: a client's threads for asynchronous transfers, and its clock.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace kvfs::client {

// Threads: post() from any thread.
// Owns:    the clock's thread, and one for jobs from the start, up to kMaxThreads when jobs wait;
//          the destructor runs what was posted and ends them.
// Blocks:  the destructor.
// Errors:  a job for which no thread can be had is run by post() itself; without one for the clock
//          there are no ticks.
class Workers {
 public:
  using Job = std::function<void()>;
  // `tick` is called about once a second, however busy the jobs are: what it gives back others may
  // be waiting for, jobs of this client among them.
  explicit Workers(Job tick);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void post(Job job);

 private:
  // Most of them wait for blocks that are not in DRAM: a load that need not is not to wait for
  // them.
  static constexpr std::size_t kMaxThreads = 32;
  bool add_thread();  // with mutex_ held
  void work();
  void keep_time();

  const Job tick_;
  std::mutex mutex_;
  std::condition_variable wake_;  // a job, or the end
  std::condition_variable end_;
  std::deque<Job> jobs_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
  std::thread clock_;
};

}  // namespace kvfs::client
