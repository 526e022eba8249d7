#include "fs/store/deadline_timer.h"

#include <vector>

namespace kvfs::store {

DeadlineTimer::DeadlineTimer() : thread_([this] { run(); }) {}

DeadlineTimer::~DeadlineTimer() { stop_and_run_pending(); }

DeadlineTimer::Id DeadlineTimer::at(Time time, std::function<void()> callback) {
  const MutexLock lock(mutex_);
  const Id id = next_id_++;
  const bool first = queue_.empty() || time < queue_.begin()->first;
  queue_.emplace(time, std::pair{id, std::move(callback)});
  times_.emplace(id, time);
  if (first) changed_.notify_one();
  return id;
}

DeadlineTimer::Id DeadlineTimer::after(std::chrono::milliseconds delay,
                                       std::function<void()> callback) {
  return at(std::chrono::steady_clock::now() + delay, std::move(callback));
}

bool DeadlineTimer::cancel(Id id) {
  std::function<void()> dropped;  // destroyed after the lock: it may own much
  const MutexLock lock(mutex_);
  const auto time = times_.find(id);
  if (time == times_.end()) return false;
  const auto [begin, end] = queue_.equal_range(time->second);
  for (auto at = begin; at != end; ++at) {
    if (at->second.first != id) continue;
    dropped = std::move(at->second.second);
    queue_.erase(at);
    break;
  }
  times_.erase(time);
  return true;
}

void DeadlineTimer::run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (queue_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto first = queue_.begin();
    if (first->first > std::chrono::steady_clock::now()) {
      const Time due = first->first;
      changed_.wait_until(lock, due);
      continue;
    }
    std::function<void()> callback = std::move(first->second.second);
    times_.erase(first->second.first);
    queue_.erase(first);
    lock.unlock();
    callback();
    callback = nullptr;
    lock.lock();
  }
}

void DeadlineTimer::stop_and_run_pending() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  std::vector<std::function<void()>> pending;
  {
    const MutexLock lock(mutex_);
    for (auto& [time, entry] : queue_) pending.push_back(std::move(entry.second));
    queue_.clear();
    times_.clear();
  }
  for (const auto& callback : pending) callback();
}

}  // namespace kvfs::store
