#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

// Waits until all that is committed is durable: of a namespace, or of the store.
void op_fsyncdir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  const PendingReply pending = fs.parked().park(req);
  const auto deadline = store::Clock::now() + fs.config().flush_timeout;
  auto done = [&fs, pending](const Status& status) {
    fs.completions().post([pending, status] { pending.finish(status); });
  };
  if (inode->ns != nullptr) return inode->ns->flush(deadline, std::move(done));
  fs.store().flush(deadline, std::move(done));
}

}  // namespace kvfs::mount
