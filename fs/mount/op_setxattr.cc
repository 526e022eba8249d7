#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"
#include "fs/mount/xattrs.h"

namespace kvfs::mount {

void op_setxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name,
                 const char* value, std::size_t size, int flags) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  const auto done = set_xattr(*inode, name, {value, size}, flags);
  fuse_reply_err(req, done ? 0 : done.error());
}

}  // namespace kvfs::mount
