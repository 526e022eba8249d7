#include "fs/plain/checksums.h"

#include <utility>

namespace kvfs::plain {
namespace {

constexpr std::size_t kMostQueued = 1024;  // descriptors
constexpr int kTries = 3;                  // for a file whose times are set meanwhile

}  // namespace

void Checksums::compute(const Opened& file) {
  for (int tries = 0; tries < kTries && !file->record_checksum(out_of_time_); ++tries) {
  }
}

void Checksums::start() {
  {
    const MutexLock lock(mutex_);
    ended_ = false;
  }
  thread_ = std::thread([this] { run(); });
}

void Checksums::post(Opened file) {
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    if (files_.size() < kMostQueued) {
      files_.push_back(std::move(file));
      changed_.notify_all();
      return;
    }
  }
  compute(file);
}

void Checksums::run() {
  MutexLock lock(mutex_);
  for (;;) {
    while (files_.empty() && !stopping_) changed_.wait(lock);
    if (files_.empty() || out_of_time_) break;
    {
      Opened file = std::move(files_.front());  // its place stays, and counts as queued
      lock.unlock();
      compute(file);
      if (out_of_time_) {
        lock.lock();
        files_.front() = std::move(file);  // it may have none
        break;
      }
    }
    lock.lock();
    files_.pop_front();
  }
  ended_ = true;
  changed_.notify_all();
}

std::deque<Opened> Checksums::stop(std::chrono::steady_clock::time_point deadline) {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    while (!ended_ && std::chrono::steady_clock::now() < deadline)
      changed_.wait_until(lock, deadline);
    out_of_time_ = true;
  }
  if (thread_.joinable()) thread_.join();
  std::deque<Opened> left;
  const MutexLock lock(mutex_);
  left.swap(files_);
  return left;
}

std::size_t Checksums::queued() const {
  const MutexLock lock(mutex_);
  return files_.size();
}

}  // namespace kvfs::plain
