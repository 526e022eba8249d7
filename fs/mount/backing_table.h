// BackingTable: which inodes are open in passthrough, and by which backing id.
#pragma once

#include <unordered_map>

#include "fs/mount/fuse_api.h"
#include "fs/mutex.h"
#include "lib/format/result.h"

namespace kvfs::mount {

// The kernel allows one backing per inode at a time: a second id, even of the same file, gives the
// client EIO. So there is one id per inode, counted, closed after the last release.
//
// Threads: all calls from any thread; the mutex is held over the kernel call, which does not block.
// Owns:    the backing ids.
// Blocks:  no.
// Errors:  acquire(): kUnavailable when the kernel refuses the file.
class BackingTable {
 public:
  // Once, before the first request.
  void start(fuse_session* session) { session_ = session; }
  Result<int> acquire(fuse_req_t req, fuse_ino_t nodeid, int fd);
  void release(fuse_ino_t nodeid);
  [[nodiscard]] std::size_t open() const;

 private:
  struct Backing {
    int id;
    std::uint32_t opens;
  };
  fuse_session* session_ = nullptr;
  mutable Mutex mutex_;
  std::unordered_map<fuse_ino_t, Backing> backings_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::mount
