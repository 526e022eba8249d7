#include "fs/store/room_waiters.h"

#include <utility>

namespace kvfs::store {

std::uint64_t RoomWaiters::times_made() const {
  const MutexLock lock(mutex_);
  return times_made_;
}

void RoomWaiters::when_made(std::uint64_t seen, Deadline deadline, Done done) {
  const auto waiter = std::make_shared<Waiter>(std::move(done), 1);
  waiter->arm(timer_, deadline, "making room in DRAM");
  {
    const MutexLock lock(mutex_);
    if (times_made_ == seen) {
      waiters_.push_back(waiter);
      return;
    }
  }
  waiter->finish({});
}

void RoomWaiters::made() {
  std::vector<WaiterPtr> waiters;
  {
    const MutexLock lock(mutex_);
    ++times_made_;
    waiters.swap(waiters_);
  }
  for (const WaiterPtr& waiter : waiters) waiter->finish({});
}

}  // namespace kvfs::store
