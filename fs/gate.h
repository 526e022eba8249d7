// Gate: how a part that others call into shuts down: refuse the new, wait for the old.
#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

#include "fs/mutex.h"

namespace kvfs {

// Threads: all calls from any thread.
// Owns:    a count of those inside. It must outlive every Pass.
// Blocks:  close() and close_until(), until all are outside.
// Errors:  enter() gives an empty Pass once close() has begun.
class Gate {
 public:
  // Proof of being inside; leaves when destroyed.
  class Pass {
   public:
    Pass() = default;
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&& other) noexcept {
      std::swap(gate_, other.gate_);
      return *this;
    }
    ~Pass() {
      if (gate_ != nullptr) gate_->leave();
    }
    explicit operator bool() const { return gate_ != nullptr; }

   private:
    friend class Gate;
    explicit Pass(Gate* gate) : gate_(gate) {}
    Gate* gate_ = nullptr;
  };

  [[nodiscard]] Pass enter() {
    const MutexLock lock(mutex_);
    if (closed_) return Pass();
    ++inside_;
    return Pass(this);
  }

  void close() {
    MutexLock lock(mutex_);
    closed_ = true;
    while (inside_ != 0) outside_.wait(lock);
  }

  // False: some are inside still at the deadline; the gate stays closed.
  [[nodiscard]] bool close_until(std::chrono::steady_clock::time_point deadline) {
    MutexLock lock(mutex_);
    closed_ = true;
    while (inside_ != 0 && std::chrono::steady_clock::now() < deadline) {
      outside_.wait_until(lock, deadline);
    }
    return inside_ == 0;
  }

 private:
  void leave() {
    const MutexLock lock(mutex_);
    if (--inside_ == 0) outside_.notify_all();
  }

  Mutex mutex_;
  CondVar outside_;
  std::uint64_t inside_ GUARDED_BY(mutex_) = 0;
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace kvfs
