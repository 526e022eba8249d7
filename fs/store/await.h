// await: waits for something that reports to a Done.
#pragma once

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

}  // namespace kvfs::store
