// StoreLock: one daemon per store.
#pragma once

#include <string>
#include <utility>

#include "lib/format/result.h"

namespace kvfs::store {

// Threads: any one.
// Owns:    an flock on the file `lock` of a directory. The kernel drops it when the process dies.
// Blocks:  never.
// Errors:  kBusy, with the directory, when another process has it.
class StoreLock {
 public:
  static Result<StoreLock> take(const std::string& directory);
  StoreLock() = default;
  StoreLock(StoreLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  StoreLock& operator=(StoreLock&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~StoreLock();

 private:
  explicit StoreLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

}  // namespace kvfs::store
