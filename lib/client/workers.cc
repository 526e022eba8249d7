#include "lib/client/workers.h"

#include <pthread.h>

#include <chrono>
#include <system_error>
#include <utility>

namespace kvfs::client {
namespace {

constexpr std::chrono::seconds kTick{1};

}  // namespace

Workers::Workers(Job tick) : tick_(std::move(tick)) {
  const std::lock_guard lock(mutex_);
  add_thread();
  try {
    clock_ = std::thread([this] { keep_time(); });
    pthread_setname_np(clock_.native_handle(), "kvfs-clock");
  } catch (const std::system_error&) {  // see Errors
  }
}

Workers::~Workers() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  end_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  if (clock_.joinable()) clock_.join();
}

bool Workers::add_thread() {
  if (threads_.size() == kMaxThreads) return false;
  try {
    threads_.emplace_back([this] { work(); });
    pthread_setname_np(threads_.back().native_handle(), "kvfs-client");
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

void Workers::post(Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (idle_ <= jobs_.size()) add_thread();
    if (!threads_.empty()) {
      jobs_.push_back(std::move(job));
      wake_.notify_one();
      return;
    }
  }
  job();
}

void Workers::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (!jobs_.empty()) {
      Job job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      job = nullptr;  // what it holds goes before the lock comes back
      lock.lock();
      continue;
    }
    if (stopping_) return;
    ++idle_;
    wake_.wait(lock);
    --idle_;
  }
}

void Workers::keep_time() {
  std::unique_lock lock(mutex_);
  while (!end_.wait_for(lock, kTick, [this] { return stopping_; })) {
    lock.unlock();
    tick_();
    lock.lock();
  }
}

}  // namespace kvfs::client
