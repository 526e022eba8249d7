#include "fs/mount/worker.h"

#include <pthread.h>

namespace kvfs::mount {

Worker::Worker(std::string name, std::size_t threads) : name_(std::move(name)) {
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

void Worker::post(std::function<void()> job) {
  const MutexLock lock(mutex_);
  if (stopping_) return;
  jobs_.push_back(std::move(job));
  changed_.notify_one();
}

void Worker::stop() {
  std::vector<std::thread> threads;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
    changed_.notify_all();
  }
  for (std::thread& thread : threads) {
    if (thread.joinable()) thread.join();
  }
}

std::size_t Worker::queued() const {
  const MutexLock lock(mutex_);
  return jobs_.size();
}

void Worker::run() {
  pthread_setname_np(pthread_self(), name_.c_str());
  MutexLock lock(mutex_);
  while (true) {
    while (jobs_.empty() && !stopping_) changed_.wait(lock);
    if (jobs_.empty()) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    job = nullptr;  // what it holds goes before the lock is taken
    lock.lock();
  }
}

}  // namespace kvfs::mount
