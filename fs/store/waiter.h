// Waiter: somebody who wants to be told once when several things have happened, or that one cannot,
// or that his deadline has passed.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "fs/store/deadline_timer.h"
#include "fs/store/store.h"

namespace kvfs::store {

// States: waiting -> finished, by finish(), once; what comes later is ignored.
//
// Threads: count_down() under the mutex of the namespace that the things belong to, finish() by any
//          thread with no lock held. Held by shared_ptr: by its deadline, and in the lists of the
//          things it waits for.
// Owns:    `done` until it was called.
// Blocks:  never.
// Errors:  `done` gets kTimeout at the deadline.
class Waiter : public std::enable_shared_from_this<Waiter> {
 public:
  Waiter(Done done, std::size_t things) : done_(std::move(done)), remaining_(things) {}

  // To be called before it is put into any list.
  void arm(DeadlineTimer& timer, Deadline deadline, std::string what) {
    if (deadline == Deadline::max()) return;
    timer_ = &timer;
    timer_id_ = timer.at(deadline, [self = shared_from_this(), what = std::move(what)] {
      self->finish(fail(Code::kTimeout, what + " did not end within its deadline"));
    });
  }

  // True when that was the last thing: the caller is then to finish() it, after unlocking.
  [[nodiscard]] bool count_down() { return --remaining_ == 0; }
  [[nodiscard]] bool finished() const { return finished_.load(std::memory_order_acquire); }

  void finish(Status status) {
    if (finished_.exchange(true, std::memory_order_acq_rel)) return;
    if (timer_ != nullptr) timer_->cancel(timer_id_);
    const Done done = std::move(done_);
    done(std::move(status));
  }

 private:
  Done done_;
  std::size_t remaining_;
  std::atomic<bool> finished_{false};
  DeadlineTimer* timer_ = nullptr;
  std::atomic<DeadlineTimer::Id> timer_id_{0};  // the deadline may come before arm() has it
};
using WaiterPtr = std::shared_ptr<Waiter>;

// Waiters that are due, collected under a lock and told after it.
struct Finished {
  WaiterPtr waiter;
  Status status;
};

}  // namespace kvfs::store
