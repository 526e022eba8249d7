#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {

void op_forget(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::uint64_t lookups) {
  fs.inodes().forget(ino, lookups);
  fuse_reply_none(req);
}

void op_forget_multi(FileSystem& fs, fuse_req_t req, std::size_t count, fuse_forget_data* forgets) {
  for (std::size_t i = 0; i < count; ++i) fs.inodes().forget(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

}  // namespace kvfs::mount
