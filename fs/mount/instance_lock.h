// InstanceLock: one daemon per store.
#pragma once

#include <chrono>
#include <string>

#include "fs/unique_fd.h"
#include "lib/format/result.h"

namespace kvfs::mount {

// Threads: one.
// Owns:    the locked file; the kernel lets go of the lock when the daemon dies.
// Blocks:  take(), for a daemon that is ending: its mount is gone before its memory is given back,
//          and whoever unmounted it may mount again at once.
// Errors:  kBusy names the other daemon's process id; kPermission: the file is somebody else's.
class InstanceLock {
 public:
  // `path` is the lock file; its directory is made if missing. `what` it stands for goes into the
  // error.
  static Result<InstanceLock> take(const std::string& path, const std::string& what,
                                   std::chrono::milliseconds wait);
  // From now on the next daemon waits for this one. What it cannot be told of it takes for running.
  void ending();

 private:
  explicit InstanceLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace kvfs::mount
