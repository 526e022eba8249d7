#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"
#include "fs/mount/xattrs.h"

namespace kvfs::mount {

void op_removexattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  const auto done = remove_xattr(*inode, name);
  fuse_reply_err(req, done ? 0 : done.error());
}

}  // namespace kvfs::mount
