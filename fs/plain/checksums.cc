#include "fs/plain/checksums.h"

#include <utility>

namespace kvfs::plain {
namespace {

constexpr std::size_t kMostQueued = 1024;  // descriptors
constexpr int kTries = 3;                  // for a file whose times are set meanwhile

void compute(const Opened& file) {
  for (int tries = 0; tries < kTries && !file->record_checksum(); ++tries) {
  }
}

}  // namespace

void Checksums::start() {
  thread_ = std::thread([this] { run(); });
}

void Checksums::post(Opened file) {
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    if (files_.size() < kMostQueued) {
      files_.push_back(std::move(file));
      changed_.notify_one();
      return;
    }
  }
  compute(file);
}

void Checksums::run() {
  MutexLock lock(mutex_);
  for (;;) {
    while (files_.empty() && !stopping_) changed_.wait(lock);
    if (files_.empty() || (stopping_ && std::chrono::steady_clock::now() >= stop_by_)) return;
    {
      const Opened file = std::move(files_.front());  // its place stays, and counts as queued
      lock.unlock();
      compute(file);
    }
    lock.lock();
    files_.pop_front();
  }
}

std::deque<Opened> Checksums::stop(std::chrono::steady_clock::time_point deadline) {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    stop_by_ = deadline;
    changed_.notify_all();
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
