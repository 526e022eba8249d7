#include "lib/client/transfer.h"

#include <immintrin.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>
#include <utility>

namespace kvfs::client {

std::uint32_t Transfer::begin_part() {
  const std::lock_guard lock(mutex_);
  ++open_parts_;
  ++steps_.back().open_parts;
  return static_cast<std::uint32_t>(steps_.size() - 1);
}

void Transfer::finish_part(Status status, std::uint32_t step) {
  std::unique_lock lock(mutex_);
  give_up_holds(lock);
  --steps_[step].open_parts;
  finish_one(std::move(status));
}

void Transfer::finish(Status status) {
  std::unique_lock lock(mutex_);
  give_up_holds(lock);
  finish_one(std::move(status));
}

void Transfer::end_step(std::uint32_t layers) {
  const std::lock_guard lock(mutex_);
  steps_.back().layers = layers;
  steps_.emplace_back();
  note_arrivals();
}

// Without the lock: they are unmapped, if it comes to that. Whose part is the last one open is
// alone with the transfer: nobody begins another.
void Transfer::give_up_holds(std::unique_lock<std::mutex>& lock) {
  if (open_parts_ != 1) return;
  std::vector<std::shared_ptr<const void>> released;
  released.swap(held_);
  lock.unlock();
  released.clear();
  lock.lock();
}

void Transfer::finish_one(Status status) {
  if (!status && status_) status_ = std::move(status);
  --open_parts_;
  note_arrivals();
  if (open_parts_ == 0) {
    complete_.store(true, std::memory_order_release);
    signal_event();
  }
  // Under the lock: a waiter may destroy this object as soon as it has seen the count.
  if (open_parts_ <= 1 || !status_) changed_.notify_all();
}

void Transfer::note_arrivals() {
  for (; arrived_ + 1 < steps_.size() && steps_[arrived_].open_parts == 0; ++arrived_) {
    if (!status_) continue;  // a part that failed brings no layer, nor do those after it
    layers_ = steps_[arrived_].layers;
    changed_.notify_all();
  }
}

void Transfer::hold(std::shared_ptr<const void> used) {
  if (std::ranges::find(held_, used) == held_.end()) held_.push_back(std::move(used));
}

void Transfer::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return open_parts_ <= 1; });
}

bool Transfer::failed() const {
  const std::lock_guard lock(mutex_);
  return !status_;
}

Status Transfer::wait(const Deadline& deadline) {
  std::unique_lock lock(mutex_);
  const auto complete = [this] { return open_parts_ == 0; };
  if (deadline.never()) {
    changed_.wait(lock, complete);
  } else if (!changed_.wait_until(lock, deadline.at(), complete)) {
    return fail(Code::kTimeout, "the transfer is not complete yet: it goes on, wait again");
  }
  return status_;
}

Status Transfer::wait_layers(std::uint32_t layers, const Deadline& deadline) {
  std::unique_lock lock(mutex_);
  const auto there = [&] { return layers_ >= layers || open_parts_ == 0 || !status_; };
  if (deadline.never()) {
    changed_.wait(lock, there);
  } else if (!changed_.wait_until(lock, deadline.at(), there)) {
    return fail(Code::kTimeout, std::to_string(layers_) + " of " + std::to_string(layers) +
                                    " layers are there yet: the transfer goes on, wait again");
  }
  return layers_ >= layers ? Status{} : status_;
}

std::uint32_t Transfer::layers() const {
  const std::lock_guard lock(mutex_);
  return layers_;
}

Status Transfer::wait_here() {
  constexpr std::chrono::milliseconds kLook{3};
  const auto end = std::chrono::steady_clock::now() + kLook;
  while (!complete_.load(std::memory_order_acquire) && std::chrono::steady_clock::now() < end) {
    _mm_pause();
  }
  return wait(Deadline::after_ms(-1));
}

bool Transfer::done() const {
  const std::lock_guard lock(mutex_);
  return open_parts_ == 0;
}

Result<int> Transfer::event_fd() {
  const std::lock_guard lock(mutex_);
  if (!event_.valid()) {
    event_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event_.valid()) return fail_errno(errno, "making the transfer's eventfd");
    if (open_parts_ == 0) signal_event();
  }
  return event_.get();
}

void Transfer::signal_event() const {
  if (!event_.valid()) return;
  const std::uint64_t one = 1;
  // Cannot fail: the counter is far from its end.
  static_cast<void>(!::write(event_.get(), &one, sizeof(one)));
}

}  // namespace kvfs::client
