// await, await_until: wait for something that reports to a Done.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "fs/mutex.h"
#include "fs/store/store.h"

namespace kvfs::store {

// `start` is given a Done that is certain to be called, by whatever thread.
template <typename Start>
Status await(Start&& start) {
  Mutex mutex;
  CondVar arrived;
  std::optional<Status> result;
  std::forward<Start>(start)(Done([&](Status status) {
    // Notified under the lock: the waiter may not leave, and take all this with it, before.
    const MutexLock lock(mutex);
    result = std::move(status);
    arrived.notify_one();
  }));
  MutexLock lock(mutex);
  while (!result) arrived.wait(lock);
  return *std::move(result);
}

// Nothing when it had not been called by the deadline; it may still be, then for nobody.
template <typename Start>
std::optional<Status> await_until(Deadline deadline, Start&& start) {
  struct Arrival {
    Mutex mutex;
    CondVar arrived;
    std::optional<Status> result GUARDED_BY(mutex);
  };
  const auto arrival = std::make_shared<Arrival>();
  std::forward<Start>(start)(Done([arrival](Status status) {
    const MutexLock lock(arrival->mutex);
    arrival->result = std::move(status);
    arrival->arrived.notify_one();
  }));
  MutexLock lock(arrival->mutex);
  while (!arrival->result && Clock::now() < deadline) {
    arrival->arrived.wait_until(lock, deadline);
  }
  return std::move(arrival->result);
}

}  // namespace kvfs::store
