// EndWatch: a daemon that was told to end does so, whatever its disks do.
#pragma once

#include <functional>
#include <thread>

#include "fs/mutex.h"
#include "fs/store/store.h"

namespace kvfs::mount {

// A disk that does not answer holds the threads that wait for it, and no orderly end gets past
// them.
//
// Threads: arm() and disarm() from any.
// Owns:    one thread, from arm() on.
// Blocks:  never for long.
// Errors:  none.
class EndWatch {
 public:
  EndWatch() = default;
  ~EndWatch() { disarm(); }
  EndWatch(const EndWatch&) = delete;
  EndWatch& operator=(const EndWatch&) = delete;

  // Calls `last_word` and ends the process at the deadline, unless disarm() comes first. The first
  // call counts.
  void arm(store::Deadline deadline, std::function<void()> last_word);
  void disarm();

 private:
  Mutex mutex_;
  CondVar changed_;
  bool over_ GUARDED_BY(mutex_) = false;
  std::thread thread_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::mount
