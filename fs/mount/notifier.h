// Notifier: tells the kernel to forget what it cached, from a thread that serves no request.
#pragma once

#include <string>

#include "fs/mount/fuse_api.h"
#include "fs/mount/worker.h"

namespace kvfs::mount {

// Threads: all calls from any thread.
// Owns:    one thread. A notification may wait for a kernel lock that another request holds, so it
//          is never sent from a handler.
// Blocks:  stop(). It must be called while requests are still served, for the same reason.
// Errors:  a failed notification means the kernel knew nothing of it, or is gone: dropped.
class Notifier {
 public:
  Notifier() : worker_("kvfs-notify", 1) {}
  void start(fuse_session* session) { session_ = session; }
  void stop() { worker_.stop(); }

  void forget_entry(fuse_ino_t parent, std::string name);
  void forget_attributes(fuse_ino_t inode);

 private:
  fuse_session* session_ = nullptr;
  Worker worker_;
};

}  // namespace kvfs::mount
