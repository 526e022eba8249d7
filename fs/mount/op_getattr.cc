#include "fs/mount/attributes.h"
#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

void op_getattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  InodePtr inode = fs.inodes().get(ino);
  // fstat(2) comes without the descriptor: what is open has attributes after it is gone, too.
  if (inode == nullptr && fs.handles().holds(ino)) inode = fs.inodes().get_opened(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  const auto attr = attributes(fs, *inode);
  if (!attr) return reply(req, attr.error());
  fuse_reply_attr(req, &*attr, timeouts(fs, inode->kind()).attr);
}

}  // namespace kvfs::mount
