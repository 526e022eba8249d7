#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"
#include "fs/mount/reply_xattr.h"
#include "fs/mount/xattrs.h"

namespace kvfs::mount {

void op_getxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name,
                 std::size_t size) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  reply_xattr(req, get_xattr(*inode, name), size);
}

}  // namespace kvfs::mount
