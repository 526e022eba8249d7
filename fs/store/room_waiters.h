// RoomWaiters: who waits for room in DRAM that is being made.
#pragma once

#include <cstdint>
#include <vector>

#include "fs/mutex.h"
#include "fs/store/deadline_timer.h"
#include "fs/store/waiter.h"

namespace kvfs::store {

// Whoever finds no room has looked at how many times some was made before he tried: what is made
// between his look and his waiting is not missed.
//
// Threads: all calls from any thread, with nothing locked.
// Owns:    the waiters.
// Blocks:  never; made() calls those who wait.
// Errors:  `done` gets kTimeout at the deadline.
class RoomWaiters {
 public:
  explicit RoomWaiters(DeadlineTimer& timer) : timer_(timer) {}

  [[nodiscard]] std::uint64_t times_made() const;
  // `done` when room was made more than `seen` times: whether it is enough, or still there, is to
  // be tried.
  void when_made(std::uint64_t seen, Deadline deadline, Done done);
  // Blocks may leave now that could not; or some never will, as far as anybody waits for them.
  void made();

 private:
  DeadlineTimer& timer_;
  mutable Mutex mutex_;
  std::uint64_t times_made_ GUARDED_BY(mutex_) = 0;
  std::vector<WaiterPtr> waiters_ GUARDED_BY(mutex_);  // finished ones too, until the next made()
};

}  // namespace kvfs::store
