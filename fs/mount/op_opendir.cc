#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

// Directories have no handles: a cookie says all. They are not left to the kernel either (by an
// answer that there is nothing to open), because it would then keep listings.
void op_opendir(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  const InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr) return reply(req, Refusal::kStale);
  if (!is_directory(inode->kind())) return reply(req, Refusal::kNotDirectory);
  fuse_reply_open(req, fi);
}

}  // namespace kvfs::mount
