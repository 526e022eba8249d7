#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

void op_readlink(FileSystem& fs, fuse_req_t req, fuse_ino_t ino) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  if (inode->kind() != InodeKind::kName) return reply(req, Refusal::kBadMessage);
  fuse_reply_readlink(req, prefix_file_name(inode->id.key).c_str());
}

}  // namespace kvfs::mount
