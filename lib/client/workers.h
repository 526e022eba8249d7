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
// Owns:    one thread from the start, up to kMaxThreads when jobs wait; the destructor runs what
// was
//          posted and ends them.
// Blocks:  the destructor.
// Errors:  a job for which no thread can be had is run by post() itself.
class Workers {
 public:
  using Job = std::function<void()>;
  // `tick` is called about once a second by whichever thread has nothing else to do.
  explicit Workers(Job tick);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void post(Job job);

 private:
  static constexpr std::size_t kMaxThreads = 4;
  bool add_thread();  // with mutex_ held
  void work();

  const Job tick_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool ticking_ = false;
  bool stopping_ = false;
};

}  // namespace kvfs::client
