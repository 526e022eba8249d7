// Notifier: tells the kernel to forget what it cached, from a thread that serves no request.
#pragma once

#include <atomic>

#include "fs/mount/fuse_api.h"
#include "fs/mount/worker.h"

namespace kvfs::mount {

// Only notifications that take no lock which a request may hold. The one that names an entry
// (FUSE_NOTIFY_INVAL_ENTRY) is not among them: it waits for the directory's lock, and a daemon that
// is killed while, say, an unlink holds that lock can then never end - the notifying thread waits
// for the unlink, the unlink for an answer, and the connection ends only with the last thread.
//
// Threads: all calls from any thread.
// Owns:    one thread.
// Blocks:  stop(), catch_up().
// Errors:  a failed notification means the kernel knew nothing of it, or is gone: dropped.
class Notifier {
 public:
  Notifier() : worker_("kvfs-notify", 1) {}
  void start(fuse_session* session) { session_ = session; }
  void stop() { worker_.stop(); }
  // Settled at INIT: the kernel can drop an inode's names (Linux 6.18).
  void set_can_prune(bool can) { can_prune_ = can; }

  void forget_attributes(fuse_ino_t inode);
  // Its names, too, where the kernel can; elsewhere they go when it needs the memory, and whoever
  // uses one before that gets ESTALE and looks it up anew. Nobody may have it open: the kernel
  // would wait for what is being read of it.
  void forget_inode(fuse_ino_t inode);
  // Until the kernel was told all that it was to be told before this call.
  void catch_up();

 private:
  void prune(fuse_ino_t inode) const;

  fuse_session* session_ = nullptr;
  std::atomic<bool> can_prune_{false};
  Worker worker_;
};

}  // namespace kvfs::mount
