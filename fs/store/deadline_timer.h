// DeadlineTimer: one thread that calls back at given times: deadlines of waiters, ends of
// quarantines, retries.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <unordered_map>
#include <utility>

#include "fs/mutex.h"

namespace kvfs::store {

// Threads: all calls from any thread; callbacks run one after another on the timer's own thread,
// with
//          no lock held, and must be short.
// Owns:    the callbacks that have not run.
// Blocks:  stop(), for the callback that is running.
// Errors:  none. After stop() nothing is called any more; what was pending is handed back to be run
//          or dropped by run_pending().
class DeadlineTimer {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Id = std::uint64_t;  // never 0

  DeadlineTimer();
  ~DeadlineTimer();
  DeadlineTimer(const DeadlineTimer&) = delete;
  DeadlineTimer& operator=(const DeadlineTimer&) = delete;

  Id at(Time time, std::function<void()> callback);
  Id after(std::chrono::milliseconds delay, std::function<void()> callback);
  // True: it will not be called. False: it was or is being called.
  bool cancel(Id id);
  // Ends the thread, then calls back everything that is pending, early. For shutdown.
  void stop_and_run_pending();

 private:
  void run();

  Mutex mutex_;  // innermost: nothing is locked or called while it is held
  CondVar changed_;
  std::multimap<Time, std::pair<Id, std::function<void()>>> queue_ GUARDED_BY(mutex_);
  std::unordered_map<Id, Time> times_ GUARDED_BY(mutex_);
  Id next_id_ GUARDED_BY(mutex_) = 1;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace kvfs::store
