// HandleTable: the open descriptors, by the number the kernel gives back with each request.
#pragma once

#include <unordered_map>

#include "fs/mount/handle.h"
#include "fs/mutex.h"

namespace kvfs::mount {

// Threads: all calls from any thread; one mutex, innermost. Handles are destroyed after it.
// Owns:    a share of each handle from open to release.
// Blocks:  never.
// Errors:  get() gives null for a number that is not open.
class HandleTable {
 public:
  std::uint64_t add(HandlePtr handle);
  [[nodiscard]] HandlePtr get(std::uint64_t number) const;
  HandlePtr take(std::uint64_t number);
  // Whether any descriptor of the inode is open.
  [[nodiscard]] bool holds(fuse_ino_t nodeid) const;
  // Drops all: the kernel sends no releases for what is open when the connection ends.
  void clear();
  [[nodiscard]] std::size_t size() const;

 private:
  mutable Mutex mutex_;
  std::unordered_map<std::uint64_t, HandlePtr> handles_ GUARDED_BY(mutex_);
  std::unordered_map<fuse_ino_t, std::uint32_t> open_ GUARDED_BY(mutex_);  // handles an inode
  std::uint64_t next_ GUARDED_BY(mutex_) = 1;
};

}  // namespace kvfs::mount
